from ._holding_cy cimport Holding
from ..shard._shard_cy cimport Shard
from ..memory._layout cimport *
from ..memory._atomics cimport *
from ..memory._probes cimport PROBES_BUILT, begin_sweep, probe_sweep

cpdef object sweep_part(Holding handle, object unit, object first, object written_before_ns,
                        object limit)
cpdef object rebuild_shard(Holding handle, object held)
cpdef object end_entries(Holding handle, object held, object entries)
cpdef object copy_shard(Holding handle, object held, object length)
