from ..values._codecs_cy cimport encode as encode_value
from ..values._keys_cy cimport encode as encode_key
from ..shard._slots_cy cimport value_position
from ._decoding_cy cimport value_of
from ..shard._shard_cy cimport Shard
from ._takes_cy cimport Takes
from ..shard._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *

cpdef int check_ttl(Takes handle, object ttl) except -1
cpdef tuple versioned(Takes handle, object key)
cpdef object put_if(Takes handle, object key, object value, u64 version, i64 deadline,
                    object ttl, object evict)
cpdef object read_and_touch(Takes handle, object key, object ttl)
cdef int touch_copied(Takes handle, Shard shard, key_t key, object room, u64 capacity,
                      i64 deadline, probe_t found) except -5
