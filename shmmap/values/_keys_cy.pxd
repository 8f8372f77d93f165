from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from ..memory._hash_cy cimport hash_key
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef object encode(object key, u64 seed, key_t out)
cdef object decode(u64 key_type, bytes data)
cdef int rehash(key_t key, u64 seed) except -1
cdef int refuse_long(u64 length) except -1

cdef extern from *:
    """
    static inline int shm_fits(PyObject *o, int64_t *out) {  /* a C long long: 1; too big: 0 */
        int overflow = 0;
        long long v = PyLong_AsLongLongAndOverflow(o, &overflow);
        if (overflow) return 0;
        *out = v;
        return 1;
    }
    static inline const char *shm_bytes_of(int64_t *p) { return (const char *)p; }
    """
    bint fits_word "shm_fits"(object o, i64* out) except -1
    src_t bytes_of_word "shm_bytes_of"(i64* p) noexcept
