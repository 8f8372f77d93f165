from ..values._codecs_cy cimport encode as encode_value
from ..values._keys_cy cimport encode as encode_key, bytes_of_word, fits_word, refuse_long
from ._reads_cy cimport Reads
from ..shard._slots_cy cimport value_position
from ._near_cy cimport LINEARIZABLE
from ..shard._shard_cy cimport Shard
from ..shard._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef class Writes(Reads):
    cdef i64 deadline_ns(self, object ttl) except -2
    cdef int prepare_deadlines(self, Shard shard, i64 deadline) except -1
    cdef int wrote(self, probe_t found) except -1
    cdef object write(self, object key, object value, int mode, object ttl, u64 version)
    cdef object commit(self, object key, key_t packed, value_t encoded, int mode, i64 deadline,
                       u64 version)
    cdef int write_locked(self, Shard shard, key_t key, value_t value, int mode, i64 deadline,
                          u64 version, probe_t found) except -5

cdef i64 _as_word(object value, str what) except? -1
cdef bint is_too_far(i64 value, i64 by) noexcept
cdef i64 _signed(u64 word) noexcept
cdef u64 _unsigned(i64 value) noexcept
