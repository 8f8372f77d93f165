from cpython.bytes cimport PyBytes_AS_STRING
from ..memory._hash_cy cimport hash_key
from ._writes_cy cimport Writes
from ..shard._status cimport *
from ..memory._layout cimport *
from ..memory._atomics cimport *

cpdef bint write_raw(
    Writes handle, object key_type, object raw_key, object value_type, object raw_value,
    object deadline_ns, object limit,
) except -1
