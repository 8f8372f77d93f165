from ..memory._clock_cy cimport Clock
from ._expiry_cy cimport Expiry
from ._index_cy cimport Index
from ._lock_cy cimport ShardLock
from ._slots_cy cimport data_bytes
from ._repair_cy cimport Repairer
from ._shard_cy cimport Shard
from ._slots_cy cimport Slots
from ._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef class ShardCopy(Shard):
    cdef readonly Shard source
    cdef u64 index_base
    cdef u64 entries
    cdef bint whole
    cdef void start(self, u64 me) noexcept
    cdef bint is_tracked(self, u64 me) noexcept
    cdef u64 used(self) noexcept
    cdef u64 copy_all(self) noexcept
    cdef u64 copy_changed(self, u64 limit) noexcept
    cdef u64 copy_entry(self, u64 head, u64 budget) noexcept
    cdef void copy_slot(self, u64 slot) noexcept
    cdef void stop(self) noexcept
    cdef void forget_tracking(self, u64 me) noexcept
    cdef int settle(self) except -1
