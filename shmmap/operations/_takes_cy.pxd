from ..values._keys_cy cimport encode as encode_key
from ..shard._lookup_cy cimport data_bytes, value_position
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
    cdef object take_any(self, Shard shard, probe_t found)
    cdef int offer(self, Shard shard, object room, u64 capacity, bint at_once,
                   probe_t found) except -5
    cdef bint take_offered(self, Shard shard, probe_t found) except -1
    cdef bint find_any(self, Shard shard, probe_t found) noexcept
    cdef int give_up_at(self, i64 until_ns, Shard shard) except -1

cdef bint is_sure(u64 meta) noexcept
cdef bint has_entries(Shard shard) noexcept
cdef u64 slot_hash(Shard shard, probe_t found) noexcept
