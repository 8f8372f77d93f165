from ._repair_cy cimport Repairer
from ._shard_cy cimport Shard
from ._slots_cy cimport data_bytes, is_tombstone
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef class Checker(Repairer):
    cdef list count_problems(self, u64 entries, u64 live, u64 claimed)
    cdef list index_problems(self, u64 entries)
