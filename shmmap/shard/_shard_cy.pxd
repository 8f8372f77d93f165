from ._lookup_cy cimport ShardLookup
from ._slots_cy cimport data_bytes, value_position
from ._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef class Shard(ShardLookup):
    cdef u64 stamp(self, u64 now_ns) noexcept
    cdef int put(self, u64 hash, u64 key_type, src_t key, u64 key_length, u64 value_type,
                 src_t value, u64 value_length, u64 deadline_ns, bint evict,
                 probe_t found) noexcept
    cdef void fill(self, u64 head, u64 meta, src_t key, src_t value, u64 deadline_ns) noexcept
    cdef void flip(self, u64 hash, u64 slot, probe_t found, i64 room) noexcept
    cdef void erase(self, u64 hash, probe_t found) noexcept
    cdef void release_slots(self, u64 slot, u64 meta) noexcept
    cdef void remove(self, u64 hash, probe_t found) noexcept
    cdef bint remove_slot(self, u64 slot, u64 hash) noexcept
    cdef i64 index_word_of(self, u64 slot, u64 hash) noexcept
    cdef bint has_room(self, u64 need, u64 had) noexcept
    cdef bint make_room(self, u64 need, u64 had, u64 keep, u64 now_ns, bint evict) noexcept
    cdef bint evict_one(self, u64 keep) noexcept
    cdef void reclaim_some(self, u64 now_ns, u64 keep) noexcept
    cdef u64 reclaim(self, u64 first, u64 last, u64 now_ns, u64 keep, u64 limit) noexcept
    cdef void change_word(self, u64 offset, u64 value, probe_t found) noexcept
    cdef void change_deadline(self, u64 deadline_ns, probe_t found) noexcept
    cdef void set_in_place(self, u64 offset, u64 value, probe_t found) noexcept
    cdef void set_deadline(self, u64 deadline_ns, probe_t found) noexcept
    cdef u64 sweep_expired(self, u64 first, u64 now_ns, u64 limit) noexcept
    cdef u64 sweep_aged(self, u64 first, u64 before_ns, u64 limit) noexcept
    cdef u64 end_all(self, u64 first, u64 last, bint singly) noexcept
    cdef bint forget_word(self, u64 slot) noexcept
    cdef void clear(self) noexcept
