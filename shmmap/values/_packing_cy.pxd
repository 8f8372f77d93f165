from ..memory._layout cimport *
from ..memory._atomics cimport utf8_of
from ._keys_cy cimport fits_word
from ._octets cimport *
from ._others_cy cimport is_own_zone, other_code, put_bytes, put_count, put_other, zone_of

cdef int TOO_DEEP, BEGUN, KNOWN

cpdef object pack_items(object value)
cdef bint put_item(writer_t writer, object value) except -1
cdef bint put_rarer(writer_t writer, object value) except -1
cdef bint put_of_library(writer_t writer, object value) except -1
cdef bint put_again(writer_t writer, object value, bint has_number) except -1
cdef bint put_number(writer_t writer, object value) except -1
cdef bint put_text(writer_t writer, object value) except -1
cdef bint put_encoded(writer_t writer, object value) except -1
cdef bint put_str(writer_t writer, const char* data, u64 length) except -1
cdef bint put_int(writer_t writer, object value) except -1
cdef bint put_big(writer_t writer, object value) except -1
cdef bint put_dict(writer_t writer, object value) except -1
cdef bint put_list(writer_t writer, object value) except -1
cdef bint put_tuple(writer_t writer, object value) except -1
cdef bint put_set(writer_t writer, object value, u64 kind) except -1
cdef i64 most_weight(u64 place) noexcept
cdef i64 weigh(object key, i64 most) except -2
cdef bint put_key(writer_t writer, object key) except -1
cdef int begin(writer_t writer, object value, u64 count, u64 few, u64 many,
               bint has_number) except -1
cdef bint finish(writer_t writer, object value, u64 count, u64 done, bint has_number) except -1
