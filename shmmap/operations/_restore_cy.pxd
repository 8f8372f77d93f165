from cpython.bytes cimport PyBytes_AS_STRING
from ..memory._hash_cy cimport hash_key
from ._takes_cy cimport Takes
from ..shard._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *

cdef class RawWrites(Takes):
    pass
