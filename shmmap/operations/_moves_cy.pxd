from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from ..shard._moving_cy cimport ShardMove
from ._cut_cy cimport drop_all, hold_each
from ._handle_cy cimport row_in_use
from ._holding_cy cimport Holding
from ..shard._shard_cy cimport Shard
from ..shard._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *

cpdef object track_moved(Holding handle, object moves, object token)
cpdef object copy_moved(Holding handle, object move, object token)
cpdef object carry_copied(Holding handle, object move, object token, object first, object limit)
cpdef object follow_shard(Holding handle, object move, object token, object limit)
cpdef tuple cut_group(Holding handle, object moves, object token, object patience_ns)
cpdef object forget_moves(Holding handle, object moves, object token)
cpdef object unsay_moved(Holding handle, object held)
cpdef object exchange_word(Holding handle, object offset, object expected, object wanted)
cdef int refuse_forked(Holding handle, u64 token) except -1
cdef void store_moved(list shards, u64 token) noexcept
