from ._atomics cimport i64, clock_ns

cdef class Clock:
    cdef public i64 frozen_ns
    cdef i64 seen_ns
    cdef void look(self) noexcept
    cdef i64 now(self) noexcept
