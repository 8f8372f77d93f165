from cpython.bytes cimport PyBytes_AS_STRING
from libc.string cimport memcpy
from ..memory._hash_cy cimport hash_key
from ..shard._shard_cy cimport Shard
from ..shard._slots_cy cimport is_tombstone, value_position
from ._writes_cy cimport Writes
from ..shard._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *

cpdef bint write_raw(
    Writes handle, object key_type, object raw_key, object value_type, object raw_value,
    object deadline_ns, object limit,
) except -1
cpdef int merge_raw(
    Writes handle, object key_type, object raw_key, object value_type, object raw_value,
    object deadline_ns, object stamp_ns, object always=*,
) except -1
cdef int _compare(Writes handle, Shard shard, key_t key, u64 kind, u64 length, u64 stamp_ns,
                  object room, bint always, u64 beaten, probe_t found) except -1
cdef int _write(Writes handle, Shard shard, key_t key, u64 kind, object data, u64 length,
                i64 deadline, u64 stamp_ns, probe_t found) except? -20
cdef void _put_word(object data, u64 at, u64 word) noexcept
cdef int _refuse_pickle(Writes handle, object value_type) except -1
