from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from ._handle_cy cimport Handle, generation_before, row_in_use
from ..shard._repair_cy cimport Repairer
from ..shard._shard_cy cimport Shard
from ..shard._slots_cy cimport is_tombstone
from ..shard._status cimport *
from ..memory._figures_cy cimport time_it
from ..memory._layout cimport *
from ..memory._atomics cimport *
from ..memory._probes cimport (begin_repair, probe_lock_timeout, probe_lock_wait, probe_repair,
                               probe_takeover)

cdef class Holding(Handle):
    cdef int refuse_reentry(self, Shard shard) except -1
    cdef int refuse_own(self, Shard shard) except -1
    cdef int hold(self, Shard shard, u64 unit) except -1
    cdef int hold_late(self, Shard shard, i64 status, i64 tried_ns, i64 until_ns) except -1
    cdef void note_takeover(self, Shard shard, i64 waited_ns) noexcept
    cdef void count_wait(self, Shard shard, i64 waited_ns) noexcept
    cdef int leave_moved(self, Shard shard, u64 unit) except -1
    cdef int reroute(self, Shard shard, u64 unit) except -1
    cdef bint see_group(self, Shard shard) noexcept
    cdef int look_at_group(self, Shard shard) except -1
    cdef int wait_for_move(self, Shard shard) except -1
    cdef bint is_whole(self, Shard shard) noexcept
    cdef int make_whole(self, Shard shard) except -1
    cdef bint is_settled(self) except -1
    cdef int try_hold(self, Shard shard, i64 timeout_ns) except -1
    cdef int hold_as_child(self, Shard shard, i64 timeout_ns) except -1
    cdef void let_go(self, Shard shard) noexcept
    cdef void drop(self, Shard shard) noexcept
    cdef void free(self, Shard shard) noexcept
    cdef void mend(self, Shard shard) noexcept
    cdef void rebuild(self, Shard shard) noexcept
    cdef object raise_for(self, int status, Shard shard, u64 data_bytes)
    cdef int end_entry(self, Shard shard, u64 hash, probe_t found, bint live) except -1
    cdef int find_locked(self, Shard shard, key_t key, probe_t found) except -5
