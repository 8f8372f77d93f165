from ..memory._layout cimport *
from ._octets cimport *
from ._others_cy cimport is_aware_code, is_own_zone, read_other_value
from ._packing_cy cimport most_weight, weigh

cpdef object unpack_items(bytes data)
cdef object read_once(octets_t data, u64 length)
cdef object read_items(octets_t data, u64 length)
cdef int need(reader_t reader, u64 length) except -1
cdef object read_item(reader_t reader)
cdef object read_number(reader_t reader, u64 kind)
cdef i64 read_count(reader_t reader, u64 kind) except -1
cdef object read_long(reader_t reader, u64 kind)
cdef object read_again(reader_t reader, u64 number)
cdef object read_text(reader_t reader, u64 length)
cdef object read_key(reader_t reader)
cdef object read_raw(reader_t reader, u64 length)
cdef object read_bytes(reader_t reader, u64 length)
cdef object read_big(reader_t reader, u64 length)
cdef object read_other(reader_t reader)
cdef object read_own_zone(reader_t reader)
cdef int go_deeper(reader_t reader, u64 count) except -1
cdef object read_dict(reader_t reader, u64 count)
cdef object read_list(reader_t reader, u64 count)
cdef object read_tuple(reader_t reader, u64 count)
cdef object read_set(reader_t reader, u64 count, bint changes)
cdef object noted(reader_t reader, object made, bint has_number)
cdef object light(reader_t reader, object key)
