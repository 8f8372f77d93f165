from ._holding_cy cimport Holding
from ..shard._shard_cy cimport Shard
from ..memory._layout cimport *
from ..memory._atomics cimport *

cpdef object sweep_part(Holding handle, object number, object first, object written_before_ns,
                        object limit)
cpdef object rebuild_shard(Holding handle, object number)
cpdef object end_entries(Holding handle, object number, object entries)
cpdef object copy_shard(Holding handle, object number, object length)
