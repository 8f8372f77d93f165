from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from ..shard._shadow_cy cimport ShardCopy
from ._holding_cy cimport Holding
from ..shard._shard_cy cimport Shard
from ..shard._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *

cpdef object track(Holding handle, object copies)
cpdef object copy_whole(Holding handle, object copy)
cpdef object copy_changed(Holding handle, object copies, object limit)
cpdef tuple cut(Holding handle, object copies, object patience_ns)
cpdef object hold_all(Holding handle, object every, object patience_ns, object work)
cdef i64 hold_each(Holding handle, list shards, i64 until) except -2
cpdef object hold_one(Holding handle, object held, object work=*)
cpdef object forget_tracking(Holding handle, object copies)
cdef void drop_all(Holding handle, list shards) noexcept
cdef int track_shard(Holding handle, Shard shard, ShardCopy copy) except -1
cdef i64 copy_changed_shard(Holding handle, Shard shard, ShardCopy copy, u64 limit) except -2
