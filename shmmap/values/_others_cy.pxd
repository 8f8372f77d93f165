from cpython.datetime cimport date_new, datetime_new, import_datetime, time_new, timedelta_new
from ..memory._layout cimport *
from ._octets cimport *

cdef extern from *:
    """
    #include "datetime.h"
    static inline int shm_has_datetime_calls(void) { return PyDateTimeAPI != NULL; }
    """
    bint has_datetime_calls "shm_has_datetime_calls"() noexcept

cdef list _classes

cdef u64 other_code(object kind) except 99
cdef object resolve(u64 code)
cdef object class_of(u64 code)
cdef object zone_of(object value, u64 code)
cdef bint is_own_zone(object zone) except -1
cdef bint put_other(writer_t writer, object value, u64 code, bint is_aware) except -1
cdef void put_count(writer_t writer, u64 kind, u64 count) noexcept
cdef int begin_bytes(writer_t writer, u64 length) except -1
cdef int put_bytes(writer_t writer, bytes data) except -1
cdef int begin_other(writer_t writer, u64 code, u64 length) except -1
cdef int put_clock(writer_t writer, object value) except -1
cdef bint put_raw(writer_t writer, u64 code, bytes data) except -1
cdef int put_day(writer_t writer, object value) except -1
cdef int put_span(writer_t writer, object value) except -1
cdef bint put_zone(writer_t writer, object value) except -1
cdef bint put_uuid(writer_t writer, object value) except -1
cdef bint is_aware_code(u64 code) noexcept
cdef object read_other_value(u64 code, octets_t data, u64 at, u64 length, object zone)
cdef object read_span(octets_t data, u64 at)
cdef object read_rarer(u64 code, bytes data)
cdef object read_zone(bytes data)
cdef object read_uuid(bytes data)
cdef int make_ready() except -1
