cimport cython
from ._decoding_cy cimport decoded_value, raw_of, value_of
from ._holding_cy cimport Holding
from ..values._keys_cy cimport encode as encode_key
from ..shard._slots_cy cimport value_position
from ._near_cy cimport AS_OPENED, LINEARIZABLE, SESSION, NearEntry, NearStore
from ._near_cy cimport is_plain, plain_form, shared
from ..shard._shard_cy cimport Shard
from ..shard._slots_cy cimport Slots
from ..shard._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef class Reads(Holding):
    cdef object copying
    cdef object try_fetch(self, Shard shard, key_t key, probe_t found, bint wants_value)
    cdef Shard shard_instead(self, Shard shard, key_t key)
    cdef object fetch_guarded(self, Shard shard, key_t key, probe_t found, bint wants_value)
    cdef object fetch(self, key_t key, probe_t found, int wants_value)
    cdef object fetch_timed(self, key_t key, probe_t found, int wants_value)
    cdef object fetch_locked(self, Shard shard, key_t key, probe_t found, bint wants_value)
    @cython.final
    cdef object read(self, object key, object default, i64 consistency)
    cdef NearEntry near_read(self, object key, i64 consistency)
    cdef object near_value(self, object key, object default, i64 consistency)
    cdef bint is_current(self, NearStore near, NearEntry held, i64 now_ns) except -1
    cdef int prune(self, NearStore near) except -1
    cdef int count_near(self, NearStore near) except -1
    cdef NearEntry near_fetch(self, NearStore near, object key, i64 consistency)
    cdef object value_in(self, NearEntry entry, object key)
