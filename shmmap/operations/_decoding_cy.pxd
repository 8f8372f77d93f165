cimport cython
from ..values._codecs_cy cimport decode as decode_value
from ._handle_cy cimport Handle
from ..values._keys_cy cimport decode as decode_key
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef class Decoding(Handle):
    cdef object copying
    @cython.final
    cdef object value_of(self, object raw, probe_t found, object key)
    @cython.final
    cdef object decoded_value(self, u64 kind, object raw, object key)
    @cython.final
    cdef object key_of(self, object raw, probe_t found)
