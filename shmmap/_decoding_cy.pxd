cimport cython
from shmmap._codecs_cy cimport decode as decode_value
from shmmap._handle_cy cimport Handle
from shmmap._keys_cy cimport decode as decode_key
from shmmap._layout cimport *
from shmmap._words cimport *

cdef class Decoding(Handle):
    cdef object copying
    @cython.final
    cdef object value_of(self, object raw, probe_t found, object key)
    @cython.final
    cdef object decoded_value(self, u64 kind, object raw, object key)
    @cython.final
    cdef object key_of(self, object raw, probe_t found)
