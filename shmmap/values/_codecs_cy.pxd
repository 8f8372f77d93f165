from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from ..memory._layout cimport *
from ._keys_cy cimport fits_word, bytes_of_word
from ..memory._atomics cimport *

cdef object encode(object value, object handle, value_t out)
cdef object decode(u64 value_type, bytes data, bint safe)

cdef extern from *:
    """
    static inline int64_t shm_word_of(PyObject *b) {
        int64_t v;
        memcpy(&v, PyBytes_AS_STRING(b), 8);
        return v;
    }
    """
    i64 word_of "shm_word_of"(object b) noexcept
