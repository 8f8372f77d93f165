from ._handle_cy cimport Handle
from ..shard._shard_cy cimport Shard
from ..memory._layout cimport *
from ..memory._atomics cimport *

cpdef object sweep_part(Handle handle, object number, object first, object written_before_ns,
                        object limit)
cpdef object rebuild_shard(Handle handle, object number)
cpdef object end_entries(Handle handle, object number, object entries)
cpdef object copy_shard(Handle handle, object number, object length)
