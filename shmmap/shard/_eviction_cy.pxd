from ._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef class Eviction:
    cdef mem_t mem
    cdef u64 ghosts
    cdef u64 ring
    cdef u64 state
    cdef u64 flag_base
    cdef u64 places
    cdef u64 ghost_count
    cdef u64 shard_bits
    cdef bint wide
    cdef readonly u64 count
    cdef void hit(self, u64 slot) noexcept
    cdef u64 flags(self, u64 slot) noexcept
    cdef void set_flags(self, u64 slot, u64 value) noexcept
    cdef u64 pop(self) noexcept
    cdef void push(self, u64 slot) noexcept
    cdef void place(self, u64 slot, bint probation) noexcept
    cdef u64 ghost_at(self, u64 hash) noexcept
    cdef int recall(self, u64 hash) noexcept
    cdef u64 wanted(self) noexcept
    cdef void adapt(self) noexcept
    cdef void count_anew(self) noexcept
    cdef void inserted(self, u64 slot, u64 hash) noexcept
    cdef void replaced(self, u64 old, u64 new) noexcept
    cdef void put_back(self, u64 slot) noexcept
    cdef void removed(self, u64 slot) noexcept
    cdef u64 next_victim(self, u64 tries) noexcept
    cdef void evicted(self, u64 slot, u64 hash) noexcept
    cdef void reset(self, u64 used) noexcept
    cdef void bump(self, u64 counter) noexcept
