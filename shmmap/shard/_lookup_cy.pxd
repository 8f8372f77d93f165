from ..memory._clock_cy cimport Clock
from ._eviction_cy cimport Eviction
from ._expiry_cy cimport Expiry
from ..memory._hash_cy cimport hash_key
from ._index_cy cimport Index
from ._lock_cy cimport ShardLock
from ._slots_cy cimport Slots, data_bytes, value_position
from ._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef object INSIDE

cdef class ShardLookup:
    cdef mem_t mem
    cdef readonly object buffer
    cdef readonly Index index
    cdef readonly Slots slots
    cdef readonly Expiry expiry
    cdef readonly Eviction eviction
    cdef readonly ShardLock lock
    cdef readonly Clock clock
    cdef readonly u64 number
    cdef readonly u64 shard_bits
    cdef readonly u64 seed
    cdef readonly u64 max_bytes
    cdef readonly bint evicts
    cdef readonly u64 generation
    cdef public u64 mover
    cdef object repairer
    cpdef u64 unit_after(self) except 0
    cdef int look(self, u64 hash, u64 key_type, src_t key, u64 key_length, probe_t out) noexcept
    cdef void foresee(self, u64 hash) noexcept
    cdef void foresee_entry(self, u64 hash) noexcept
    cdef void foresee_bucket(self, u64 position) noexcept
    cdef int find(self, u64 hash, u64 key_type, src_t key, u64 key_length, probe_t out) noexcept
    cdef object raw_bytes(self, probe_t found, u64 position, u64 length)
    cdef object raw_value(self, probe_t found)
    cdef object copy_value(self, probe_t found)
    cdef object raw_key(self, probe_t found)
    cdef bint confirm(self, probe_t found) noexcept
    cdef bint is_expired(self, probe_t found) noexcept
    cdef bint is_live(self, int status, probe_t found) noexcept
    cdef int scan(self, u64 position, probe_t out) noexcept
    cdef u64 count_live(self, i64 now_ns) noexcept
    cdef bint has_live(self, i64 now_ns) noexcept
    cdef u64 count_heads(self, i64 now_ns, u64 most) noexcept
    cdef u64 slot_hash(self, u64 slot, u64 meta) noexcept
