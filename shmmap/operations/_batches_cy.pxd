from ..values._keys_cy cimport encode as encode_key
from ..values._codecs_cy cimport encode as encode_value
from ..values._octets cimport new_dict
from ._decoding_cy cimport value_of
from ._near_cy cimport AS_OPENED
from ..shard._shard_cy cimport Shard
from ._writes_cy cimport Writes
from ..memory._layout cimport *
from ..memory._atomics cimport *

cpdef dict read_many(Writes handle, object keys, object default, object unreadable)
cdef int read_one(Writes handle, object key, object default, object unreadable,
                  dict gathered) except -1
cdef int read_group(Writes handle, list group, object default, object unreadable,
                    dict gathered) except -1
cpdef object write_many(Writes handle, object pairs, int mode, object ttl)
cdef int write_group(Writes handle, list queued, list its_values, int mode,
                     object ttl) except -1
cdef int foresee(Writes handle, key_t packed, u64 count) except -1
