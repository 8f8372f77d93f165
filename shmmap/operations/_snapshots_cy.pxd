from cpython.list cimport PyList_GET_ITEM
from ..shard._shadow_cy cimport ShardCopy
from ._scans_cy cimport Scans
from ..shard._shard_cy cimport Shard
from ..shard._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef class Snapshots(Scans):
    cdef void drop_all(self, list shards) noexcept

cdef int track_shard(Snapshots core, Shard shard, ShardCopy copy) except -1
cdef i64 copy_changed_shard(Snapshots core, Shard shard, ShardCopy copy,
                            u64 limit) except -2
