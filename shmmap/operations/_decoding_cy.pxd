from ._handle_cy cimport Handle
from ..shard._lookup_cy cimport INSIDE
from ..values._codecs_cy cimport decode as decode_value
from ..values._codecs_cy cimport decode_at, word_at
from ..values._octets cimport octets_at
from ..values._keys_cy cimport decode as decode_key
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef object value_of(Handle handle, object raw, probe_t found, object key)
cdef object raw_of(object raw, probe_t found)
cdef object inside_value(Handle handle, u64 kind, probe_t found, object key)
cdef object error_of(Handle handle, u64 kind, object raw, object key, object error)
cdef object bytes_inside(probe_t found)
cdef object decoded_value(Handle handle, u64 kind, object raw, object key)
cpdef object decode_listed(Handle handle, u64 kind, object raw, object key)
cdef object key_of(Handle handle, object raw, probe_t found)
