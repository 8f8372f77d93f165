cimport cython
from ..memory._clock_cy cimport Clock
from ..operations._reads_cy cimport Reads
from ..values._codecs_cy cimport decode_at, word_of
from ..values._keys_cy cimport encode as encode_key
from ..values._octets cimport octets_t, word32
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef extern from *:
    """
    static inline shm_octets shm_octets_from(PyObject *b, uint64_t at) {
        return (shm_octets)PyBytes_AS_STRING(b) + at;
    }
    """
    octets_t octets_from "shm_octets_from"(object data, u64 at) noexcept

cdef class Copies:
    cdef Reads _from
    cdef Clock _clock
    cdef i64 _since
    cdef i64 _proven
    cdef i64 _floor
    cdef i64 _looked
    cdef i64 _most_ns
    cdef i64 _look_ns
    cdef bint _wants_told
    cdef u64 _tag
    @cython.final
    cdef object find(self, object key, object default)
