from ._slots_cy cimport data_bytes, is_tombstone
from ._shard_cy cimport Shard
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef u64 bytes_of_marks(u64 slots) noexcept

cdef class Repairer:
    cdef Shard shard
    cdef mem_t mem
    cdef object marks_buffer
    cdef u64 marks_bytes
    cdef mem_t marks
    cdef bint claim_chain(self, u64 head, u64 n) noexcept
    cdef void disown_chain(self, u64 head, u64 n) noexcept
    cdef u64 entries
    cdef u64 tombstones
    cdef u64 live_bytes
    cdef bint plausible(self, u64 version, u64 meta, u64 length) noexcept
    cdef void examine(self, u64 slot) noexcept
    cdef bint set_right(self, u64 slot, u64 meta) noexcept
    cdef i64 find_twin(self, u64 hash, u64 slot, u64 meta) noexcept
    cdef bint is_here(self, u64 hash) noexcept
    cdef void admit(self, u64 slot, u64 meta) noexcept
    cdef u64 free_the_rest(self) noexcept
    cdef void run(self) noexcept
    cdef void count(self, u64 meta) noexcept
    cdef void uncount(self, u64 slot) noexcept
    cdef void tie_chain(self, u64 head, u64 n) noexcept
    cdef u64 chain_end(self, u64 head, u64 n) noexcept
