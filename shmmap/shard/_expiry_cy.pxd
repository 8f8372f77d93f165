from ..memory._layout cimport *
from ..memory._atomics cimport *

cpdef u64 time_of(u64 base_ns, u64 code) noexcept
cpdef u64 last_due(u64 base_ns, u64 now_ns) noexcept
cpdef u64 code_of(u64 base_ns, u64 deadline_ns) noexcept
cpdef u64 base_of(u64 word) noexcept
cpdef u64 word_of_base(u64 base_ns) noexcept

cdef class Expiry:
    cdef mem_t mem
    cdef u64 base
    cdef readonly u64 base_ns
    cdef readonly u64 count
    cdef void copy_base(self, Expiry other) noexcept
    cdef void store_base(self) noexcept
    cdef bint ready(self) noexcept
    cdef u64 deadline(self, u64 slot) noexcept
    cdef void set(self, u64 slot, u64 deadline_ns) noexcept
    cdef void bury(self, u64 slot) noexcept
    cdef bint is_buried(self, u64 slot) noexcept
    cdef u64 find_buried(self, u64 first) noexcept
    cdef void forget(self, u64 slot) noexcept
    cdef void forget_all(self, u64 used) noexcept
    cdef void copy(self, u64 slot, Expiry source) noexcept
    cdef bint due(self, u64 now_ns) noexcept
    cdef u64 find_due(self, u64 first, u64 now_ns) noexcept
    cdef u64 count_due(self, u64 now_ns) noexcept
    cdef void settle(self) noexcept
