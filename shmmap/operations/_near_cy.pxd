from ..shard._shard_cy cimport Shard
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef extern from *:
    """
    /* What a dict (or OrderedDict) holds for a key, or None. Key types are built in: no foreign
       code runs, and the GIL is kept. */
    static inline PyObject *shm_held(PyObject *entries, PyObject *key) {
        PyObject *found = PyDict_GetItemWithError(entries, key);
        if (found == NULL) {
            if (PyErr_Occurred()) return NULL;
            found = Py_None;
        }
        Py_INCREF(found);
        return found;
    }
    """
    object held_in "shm_held"(object entries, object key)

cdef enum:
    LINEARIZABLE = -1
    SESSION = -2
    AS_OPENED = -3

cdef class NearEntry:
    cdef object value
    cdef object raw
    cdef u64 kind
    cdef Shard shard
    cdef u64 slot
    cdef u64 at
    cdef u64 version
    cdef i64 deadline
    cdef i64 read_ns
    cdef u64 seal
    cdef bint hit
    cdef bint ready
    cdef bint dead
    cdef NearEntry previous
    cdef bint expired(self, i64 now_ns) noexcept

cdef class NearStore:
    cdef object entries
    cdef readonly Py_ssize_t size
    cdef readonly bint copies
    cdef readonly i64 bound_ns
    cdef u64 seal
    cdef u64 epoch
    cdef u64 answered
    cdef NearEntry find(self, object key)
    cdef NearEntry begin(self, object key)
    cdef int finish(self, object key, NearEntry fresh) except -1
    cdef int drop(self, object key) except -1
    cdef int saw(self, object key, u64 version) except -1
    cdef int reseal(self) except -1
    cdef bint may_stand(self, NearEntry held, i64 now_ns) noexcept
    cdef int evict(self, NearEntry fresh) except -1
    cdef int prune(self, i64 now_ns) except -1

cdef bint is_plain(object key, int depth) except -1
cdef object plain_form(object key)
cdef object shared(object value)
