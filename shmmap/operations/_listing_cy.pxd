from ._decoding_cy cimport key_of, value_of
from ._reads_cy cimport Reads
from ..shard._slots_cy cimport data_bytes, is_tombstone, value_position
from ..values._keys_cy cimport encode as encode_key
from ..values._octets cimport ascii_text
from ..shard._shard_cy cimport Shard
from ..shard._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *

cpdef tuple list_entries(Reads handle, object unit, object wants_values, object prefix=*,
                         object on_unreadable=*)
cpdef tuple list_raw(Reads handle, object unit)
cpdef tuple list_copied(Reads handle, object unit, object wall_ns=*)
cdef int RAW

cdef tuple list_part(Reads handle, u64 unit, int wants_values, object prefix)
cdef object scan_shard(Reads handle, Shard shard, u64 unit, int wants_values, object prefix)
cdef u64 whole_index(Reads handle, Shard shard) except? 1
cdef int scan_one(Reads handle, Shard shard, u64 position, probe_t found, key_t start,
                  int wants_values, list listed) except -5
cdef bint is_short_text(probe_t found) noexcept
cdef int scan_text(Shard shard, probe_t found, int wants_values, list listed) except -5
cdef int scan_locked(Reads handle, Shard shard, u64 position, probe_t found, key_t start,
                     int wants_values, list listed) except -5
cdef int copy_next(Reads handle, Shard shard, u64 position, probe_t found, key_t start,
                   int wants_values, object room, u64 capacity) except -5
cdef object decoded(Reads handle, list listed, int wants_values, object on_unreadable)
cdef bint is_left_out(Shard shard, probe_t found, key_t start) noexcept
cdef bint starts_with(Shard shard, probe_t found, key_t start) noexcept
cdef u64 shard_rebuilds(Shard shard) noexcept
