from ..shard._lookup_cy cimport data_bytes, value_position
from ..values._keys_cy cimport encode as encode_key
from ..shard._shard_cy cimport Shard
from ._restore_cy cimport RawWrites
from ..shard._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef class Scans(RawWrites):
    cdef int heal(self, Shard shard) except -1
    cdef int copy_next(self, Shard shard, u64 position, probe_t found, key_t start,
                       bint wants_values, object room, u64 capacity) except -5
    cdef u64 whole_index(self, Shard shard) except? 1
    cdef object scan_shard(self, u64 number, bint wants_values, object prefix)
    cdef int scan_one(self, Shard shard, u64 position, probe_t found, key_t start,
                      bint wants_values, list listed) except -5
    cdef int scan_locked(self, Shard shard, u64 position, probe_t found,
                         key_t start, bint wants_values, list listed) except -5
    cdef object decoded(self, list listed, bint wants_values)

cdef bint starts_with(Shard shard, probe_t found, key_t start) noexcept
cdef u64 shard_rebuilds(Shard shard) noexcept
cdef int clear_shard(Scans core, Shard shard) except -1
