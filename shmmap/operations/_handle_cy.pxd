from ..memory._clock_cy cimport Clock
from ..memory._figures_cy cimport note_event, time_it
from ._near_cy cimport NearStore
from ..shard._shard_cy cimport Shard
from ..values._keys_cy cimport rehash
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef class Handle:
    cdef mem_t control
    cdef mem_t fork_page
    cdef list shards
    cdef u64 row
    cdef u64 rows
    cdef u64 seed
    cdef u64 shift
    cdef u64 mask
    cdef bint safe
    cdef readonly bint closed
    cdef public bint _sweeping
    cdef u64 look_at
    cdef u64 ticks
    cdef u64 write_ticks
    cdef public bint _follows
    cdef public bint _turning
    cdef readonly i64 ttl_ns
    cdef i64 tombstones_ns
    cdef u64 wall_ns
    cdef i64 lock_timeout_ns
    cdef readonly Py_ssize_t inflight
    cdef public object attachment
    cdef public object _coder
    cdef object gate
    cdef dict marks
    cdef public object _at_last
    cdef Clock clock
    cdef readonly str name
    cdef readonly NearStore near
    cdef int ready(self) except -1
    cdef int refuse_closed(self) except -1
    cdef int follow(self) except -1
    cdef int go_on(self) except -1
    cdef int enter(self) except -1
    cdef int come_in(self) except -1
    cdef u64 token(self) noexcept
    cdef void leave(self) noexcept
    cdef void end_of_all(self) noexcept
    cdef void tally(self) noexcept
    cdef int look_now(self) except -1
    cdef int look_if_due(self, u64 version) except -1
    cdef void count(self, u64 counter) noexcept
    cdef void count_time(self, u64 which, i64 start_ns) noexcept
    cdef u64 pid_of(self, u64 token) noexcept
    cdef void note(self, u64 kind, Shard shard, u64 detail) noexcept
    cdef Shard shard_for(self, key_t key)
    cdef Shard shard_at(self, u64 unit)

cdef u64 generation_before(mem_t control, u64 word, u64 unit) noexcept
cdef u64 row_in_use(u64 word, u64 at) noexcept
