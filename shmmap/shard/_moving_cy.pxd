from cpython.list cimport PyList_GET_ITEM
from ..memory._hash_cy cimport hash_key
from ._shadow_cy cimport ShardCopy
from ._shard_cy cimport Shard
from ._slots_cy cimport data_bytes, is_tombstone, value_position
from ._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef class ShardMove(ShardCopy):
    cdef readonly list targets
    cdef u64 carried_base
    cdef u64 room_base
    cdef u64 bits
    cdef readonly u64 failed
    cdef readonly u64 dropped
    cdef readonly u64 expired
    cdef readonly u64 carried
    cdef u64 target_of(self, u64 hash) noexcept
    cdef i64 carry_all(self, u64 first, u64 limit) noexcept
    cdef bint is_marked(self, u64 slot) noexcept
    cdef i64 follow(self, i64 limit) noexcept
    cdef void forget(self, u64 slot) noexcept
    cdef i64 carry(self, u64 slot) noexcept
    cdef bint gather(self, u64 head, u64 length) noexcept
    cdef void settle_stamps(self) noexcept

cdef void add_word(mem_t source, mem_t target, u64 offset) noexcept
