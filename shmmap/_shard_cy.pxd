from shmmap._clock_cy cimport Clock
from shmmap._eviction_cy cimport Eviction
from shmmap._expiry_cy cimport Expiry
from shmmap._hash_cy cimport hash_key
from shmmap._index_cy cimport Index
from shmmap._layout cimport *
from shmmap._lock_cy cimport ShardLock
from shmmap._slots_cy cimport Slots
from shmmap._words cimport *

cdef class Shard:
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
    cdef object scratch
    cdef int look(self, u64 hash, u64 key_type, src_t key, u64 key_length, probe_t out) noexcept
    cdef bint confirm(self, probe_t found) noexcept
    cdef bint is_expired(self, probe_t found) noexcept
    cdef int find(self, u64 hash, u64 key_type, src_t key, u64 key_length, probe_t out) noexcept
    cdef u64 stamp(self, u64 now_ns) noexcept
    cdef int put(self, u64 hash, u64 key_type, src_t key, u64 key_length, u64 value_type,
                 src_t value, u64 value_length, u64 deadline_ns, probe_t found) noexcept
    cdef bint has_room(self, u64 need, u64 had) noexcept
    cdef bint make_room(self, u64 need, u64 had, u64 keep, u64 now_ns) noexcept
    cdef void fill(self, u64 head, u64 meta, src_t key, src_t value, u64 deadline_ns) noexcept
    cdef void flip(self, u64 hash, u64 slot, probe_t found, i64 room) noexcept
    cdef void erase(self, u64 hash, probe_t found) noexcept
    cdef void remove(self, u64 hash, probe_t found) noexcept
    cdef bint remove_slot(self, u64 slot, u64 hash) noexcept
    cdef bint evict_one(self, u64 keep) noexcept
    cdef void reclaim_some(self, u64 now_ns, u64 keep) noexcept
    cdef u64 reclaim(self, u64 first, u64 last, u64 now_ns, u64 keep, u64 limit) noexcept
    cdef u64 sweep_expired(self, u64 first, u64 now_ns, u64 limit) noexcept
    cdef u64 sweep_idle(self, u64 first, u64 before_ns, u64 limit) noexcept
    cdef void clear(self) noexcept
    cdef u64 slot_hash(self, u64 slot, u64 meta) noexcept
    cdef void release_slots(self, u64 slot, u64 meta) noexcept
    cdef void change_word(self, u64 offset, u64 value, probe_t found) noexcept
    cdef void set_in_place(self, u64 offset, u64 value, probe_t found) noexcept
    cdef void set_deadline(self, u64 deadline_ns, probe_t found) noexcept
    cdef int scan(self, u64 position, probe_t out) noexcept
    cdef bint read_key(self, probe_t found, char* target) noexcept
    cdef bint read_value(self, probe_t found, char* target) noexcept

cdef u64 data_bytes(u64 meta) noexcept
cdef u64 value_position(u64 meta) noexcept
