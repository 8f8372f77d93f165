from ..values._keys_cy cimport encode as encode_key
from ..shard._slots_cy cimport value_position
from ._decoding_cy cimport value_of
from ._pop_any_cy cimport give_up_at, is_sure, take_any
from ..shard._shard_cy cimport Shard
from ._writes_cy cimport Writes
from ..shard._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef class Takes(Writes):
    cdef u64 pop_turn
    cdef bint take(self, object key) except -1
    cdef object take_value(self, object key, key_t packed, probe_t found)
    cdef object peek(self, Shard shard, key_t key, probe_t found)
    cdef int take_version(self, Shard shard, key_t key, u64 version, probe_t found) except -5
    cdef object take_at_once(self, Shard shard, key_t key, probe_t found)
    cdef int take_copied(self, Shard shard, key_t key, object room, u64 capacity,
                         probe_t found) except -5
    cdef i64 count_all(self, bint is_enough) except -1
    cdef i64 count_up_to(self, i64 now_ns, bint is_enough) except -1
    cdef int heal(self, Shard shard) except -1

cdef int clear_shard(Takes handle, Shard shard) except -1
