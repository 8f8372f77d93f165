from ._lookup_cy cimport ShardLookup
from ._slots_cy cimport data_bytes, is_tombstone, value_position
from ._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *
from ..memory._probes cimport probe_evict

cdef class ShardRemoving(ShardLookup):
    cdef void flip(self, u64 hash, u64 slot, probe_t found, i64 room) noexcept
    cdef void release_slots(self, u64 slot, u64 meta) noexcept
    cdef void remove(self, u64 hash, probe_t found) noexcept
    cdef bint remove_slot(self, u64 slot, u64 hash) noexcept
    cdef i64 index_word_of(self, u64 slot, u64 hash) noexcept
    cdef bint has_room(self, u64 need, u64 had) noexcept
    cdef bint make_room(self, u64 need, u64 had, u64 keep, u64 now_ns, bint evict) noexcept
    cdef bint evict_one(self, u64 keep) noexcept
    cdef void reclaim_some(self, u64 now_ns, u64 keep) noexcept
    cdef u64 reclaim(self, u64 first, u64 last, u64 now_ns, u64 keep, u64 limit) noexcept
    cdef u64 kept_until(self, u64 slot, u64 meta) noexcept
    cdef void lose_tombstone(self) noexcept
    cdef u64 unbury(self, u64 first, u64 now_ns, u64 keep, u64 limit) noexcept
    cdef void unbury_some(self, u64 now_ns, u64 keep) noexcept
    cdef bint sacrifice(self, u64 now_ns, u64 keep) noexcept
