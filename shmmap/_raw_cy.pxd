from cpython.bytes cimport PyBytes_AS_STRING
from shmmap._hash_cy cimport hash_key
from shmmap._takes_cy cimport Takes
from shmmap._layout cimport *
from shmmap._words cimport *

cdef class RawWrites(Takes):
    pass
