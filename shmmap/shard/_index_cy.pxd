from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef class Index:
    cdef mem_t mem
    cdef u64 base
    cdef readonly u64 buckets
    cdef u64 home(self, u64 hash, u64 shard_bits) noexcept
    cdef unsigned int match(self, u64 bucket, u64 tag) noexcept
    cdef bint passed(self, u64 bucket) noexcept
    cdef u64 overflow(self, u64 bucket) noexcept
    cdef u64 after(self, u64 bucket) noexcept
    cdef u64 word(self, u64 position) noexcept
    cdef i64 find_room(self, u64 home) noexcept
    cdef void mark(self, u64 home, u64 position) noexcept
    cdef void unmark(self, u64 home, u64 position) noexcept
    cdef void put(self, u64 position, u64 tag, u64 slot) noexcept
    cdef void clear(self) noexcept
