from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef class Expiry:
    cdef mem_t mem
    cdef u64 base
    cdef readonly u64 count
    cdef bint ready(self) noexcept
    cdef u64 deadline(self, u64 slot) noexcept
    cdef u64 at(self, u64 slot) noexcept
    cdef void hasten(self, u64 deadline_ns) noexcept
    cdef void set(self, u64 slot, u64 deadline_ns) noexcept
    cdef void forget(self, u64 slot) noexcept
    cdef void forget_all(self, u64 used) noexcept
    cdef bint due(self, u64 now_ns) noexcept
    cdef u64 find_due(self, u64 first, u64 now_ns) noexcept
    cdef u64 count_due(self, u64 now_ns) noexcept
    cdef void settle(self) noexcept
