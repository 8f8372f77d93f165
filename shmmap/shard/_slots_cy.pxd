from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef u64 data_bytes(u64 meta) noexcept
cdef u64 value_position(u64 meta) noexcept
cdef bint is_tombstone(u64 meta) noexcept

cdef class Slots:
    cdef mem_t mem
    cdef u64 next_base
    cdef u64 base
    cdef u64 changed_base
    cdef readonly u64 count
    cdef readonly u64 size
    cdef u64 at(self, u64 slot) noexcept
    cdef u64 version(self, u64 slot) noexcept
    cdef void set_version(self, u64 slot, u64 version) noexcept
    cdef void mark(self, u64 slot) noexcept
    cdef u64 meta(self, u64 slot) noexcept
    cdef u64 needed(self, u64 data_bytes) noexcept
    cdef u64 free_slots(self) noexcept
    cdef u64 take(self, u64 n) noexcept
    cdef u64 give_back(self, u64 head, u64 n) noexcept
    cdef bint in_use(self, u64 slot) noexcept
    cdef bint is_alone(self, u64 slot) noexcept
    cdef void tie(self, u64 slot, u64 following) noexcept
    cdef u64 used(self) noexcept
    cdef void reset(self, u64 fresh, u64 last) noexcept
    cdef void give_one(self, u64 slot) noexcept
    cdef u64 next_of(self, u64 slot) noexcept
    cdef bint write(self, u64 head, u64 position, src_t source, u64 length) noexcept
    cdef bint read(self, u64 head, u64 position, char* target, u64 length) noexcept
    cdef bint same(self, u64 head, src_t source, u64 length) noexcept
    cdef bint alike(self, u64 head, u64 other, u64 length) noexcept
    cdef u64 word(self, u64 head, u64 position) noexcept
    cdef u64 value_offset(self, u64 head, u64 position) noexcept
    cdef list free_list(self)
