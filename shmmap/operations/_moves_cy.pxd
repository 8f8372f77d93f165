from ..shard._moving_cy cimport ShardMove
from ._holding_cy cimport Holding
from ..shard._shard_cy cimport Shard
from ..shard._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *

cpdef object carry_copied(Holding handle, object move, object first, object limit)
cpdef object follow_shard(Holding handle, object move, object limit, object settles=*)
