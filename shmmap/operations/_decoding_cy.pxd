from ._handle_cy cimport Handle
from ..values._codecs_cy cimport decode as decode_value
from ..values._keys_cy cimport decode as decode_key
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef object value_of(Handle handle, object raw, probe_t found, object key)
cdef object decoded_value(Handle handle, u64 kind, object raw, object key)
cpdef object decode_listed(Handle handle, u64 kind, object raw, object key)
cdef object key_of(Handle handle, object raw, probe_t found)
