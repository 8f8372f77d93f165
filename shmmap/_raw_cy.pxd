from cpython.bytes cimport PyBytes_AS_STRING
from ._hash_cy cimport hash_key
from ._takes_cy cimport Takes
from ._layout cimport *
from ._words cimport *

cdef class RawWrites(Takes):
    pass
