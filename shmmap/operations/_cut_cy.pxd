from cpython.list cimport PyList_GET_ITEM
from ..shard._shadow_cy cimport ShardCopy
from ._handle_cy cimport Handle
from ..shard._shard_cy cimport Shard
from ..shard._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *

cpdef object track(Handle handle, object copies)
cpdef object copy_whole(Handle handle, object copy)
cpdef object copy_changed(Handle handle, object copies, object limit)
cpdef tuple cut(Handle handle, object copies, object patience_ns)
cpdef object hold_all(Handle handle, object patience_ns, object work)
cpdef object wait_for_shard(Handle handle, object number)
cpdef object forget_tracking(Handle handle, object copies)
cdef void drop_all(Handle handle, list shards) noexcept
cdef int track_shard(Handle handle, Shard shard, ShardCopy copy) except -1
cdef i64 copy_changed_shard(Handle handle, Shard shard, ShardCopy copy, u64 limit) except -2
