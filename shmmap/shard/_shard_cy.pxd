from ._removing_cy cimport ShardRemoving
from ._slots_cy cimport data_bytes, is_tombstone, value_position
from ._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef class Shard(ShardRemoving):
    cdef u64 stamp(self, u64 now_ns) noexcept
    cdef int put(self, u64 hash, u64 key_type, src_t key, u64 key_length, u64 value_type,
                 src_t value, u64 value_length, u64 deadline_ns, bint evict,
                 probe_t found) noexcept
    cdef void fill(self, u64 head, u64 meta, src_t key, src_t value, u64 deadline_ns) noexcept
    cdef void erase(self, u64 hash, probe_t found) noexcept
    cdef u64 upcoming(self, u64 now_ns) noexcept
    cdef int bury(self, u64 hash, probe_t found, u64 until_ns) noexcept
    cdef void bury_all(self, u64 until_ns) noexcept
    cdef u64 stamp_of(self, probe_t found, u64 wall_ns) noexcept
    cdef u64 sweep_tombstones(self, u64 first, u64 now_ns, u64 limit) noexcept
    cdef void change_word(self, u64 offset, u64 value, probe_t found) noexcept
    cdef void change_deadline(self, u64 deadline_ns, probe_t found) noexcept
    cdef void set_in_place(self, u64 offset, u64 value, probe_t found) noexcept
    cdef void set_deadline(self, u64 deadline_ns, probe_t found) noexcept
    cdef u64 sweep_expired(self, u64 first, u64 now_ns, u64 limit) noexcept
    cdef u64 sweep_aged(self, u64 first, u64 before_ns, u64 limit) noexcept
    cdef u64 end_all(self, u64 first, u64 last, bint singly) noexcept
    cdef bint forget_word(self, u64 slot) noexcept
    cdef void clear(self) noexcept
