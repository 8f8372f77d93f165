from ._holding_cy cimport Holding
from ..shard._shard_cy cimport Shard
from ..shard._slots_cy cimport Slots, data_bytes, is_tombstone
from ..shard._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef class NeedCount:
    cdef Slots slots
    cdef u64 max_bytes
    cdef readonly u64 longest
    cdef readonly u64 too_large
    cdef u64 needs[4096]  # one for each of the table's UNITS
    cdef u64 left_out[4096]
    cdef u64 entries[4096]
    cdef i64 count_slots(self, Shard shard, u64 first, u64 last) noexcept
    cdef int count_slot(self, Shard shard, probe_t found, bint at_last) noexcept
    cpdef list by_unit(self)

cpdef object count_needed(Holding handle, object shard, object count, object first, object limit)
