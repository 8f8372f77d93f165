from ._layout cimport *
from ._atomics cimport *

cdef void time_it(mem_t control, u64 which, i64 took_ns) noexcept
cdef void note_event(mem_t control, u64 row, u64 now_ns, u64 kind, u64 shard, u64 detail) noexcept
cdef void write_event(mem_t control, u64 row, u64 now_ns, u64 kind, u64 shard, u64 detail) noexcept
cpdef u64 check_of(u64 number, u64 when, u64 what, u64 detail) noexcept

cdef class Figures:
    cdef object buffer
    cdef mem_t mem
