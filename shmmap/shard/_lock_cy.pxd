from ._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *
from cpython.exc cimport PyErr_CheckSignals

cdef class ShardLock:
    cdef mem_t mem
    cdef mem_t fork_page
    cdef object page_buffer
    cdef bint forks
    cdef object owner_buffer
    cdef u64 semaphore
    cdef object region
    cdef object liveness
    cdef u64 holder
    cdef bint taken_over
    cdef i64 waited_ns
    cdef u64 behind
    cdef bint is_other(self, u64 me) noexcept
    cdef bint holds(self, u64 me) noexcept
    cdef bint is_dead(self, u64 owner, u64 me) except -1
    cdef bint try_quickly(self, u64 me, i64 until_ns) noexcept
    cdef int wait_for(self, u64 me, i64 timeout_ns) except -1
    cdef int acquire(self, u64 me, i64 timeout_ns) except -1
    cdef bint wait_slice(self, u64 me, i64 slice_ns) except -1
    cdef void release(self) noexcept
    cdef void leave_to_nobody(self) noexcept
    cdef bint held_by(self, u64 me) noexcept
