from ._decoding_cy cimport key_of, value_of
from ._reads_cy cimport Reads
from ..shard._slots_cy cimport data_bytes, value_position
from ..shard._shard_cy cimport Shard
from ..shard._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef object take_any(Reads handle, Shard shard, probe_t found)
cdef int offer(Reads handle, Shard shard, object room, u64 capacity, bint at_once,
               probe_t found) except -5
cdef bint take_offered(Reads handle, Shard shard, probe_t found) except -1
cdef bint find_any(Reads handle, Shard shard, probe_t found) noexcept
cdef int give_up_at(Reads handle, i64 until_ns, Shard shard) except -1
cdef bint is_sure(u64 meta) noexcept
cdef bint has_entries(Shard shard) noexcept
cdef u64 slot_hash(Shard shard, probe_t found) noexcept
