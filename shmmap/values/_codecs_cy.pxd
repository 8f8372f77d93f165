from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from ..memory._layout cimport *
from ._keys_cy cimport fits_word, bytes_of_word
from ..memory._atomics cimport *
from ._packing_cy cimport pack_items
from ._unpacking_cy cimport read_items, unpack_items
from ._octets cimport bits_of_real, octets_at, octets_t, real64, text

cdef object encode(object value, object coder, value_t out)
cdef bint is_container(object value) noexcept
cdef object decode_at(u64 value_type, octets_t data, u64 length)
cdef object decode(u64 value_type, bytes data, bint safe)

cdef extern from *:
    """
    static inline int64_t shm_word_of(PyObject *b) {
        int64_t v;
        memcpy(&v, PyBytes_AS_STRING(b), 8);
        return v;
    }
    static inline int64_t shm_word_at(shm_octets d) { int64_t v; memcpy(&v, d, 8); return v; }
    """
    i64 word_at "shm_word_at"(octets_t data) noexcept
    i64 word_of "shm_word_of"(object b) noexcept
