from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from shmmap._layout cimport *
from shmmap._keys_cy cimport fits_word, bytes_of_word
from shmmap._words cimport *

cdef object encode(object value, bint safe, value_t out)
cdef object decode(u64 value_type, bytes data, bint safe)
