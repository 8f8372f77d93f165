"""Values as bytes: the common types natively, everything else by pickle.

    bytes, str (UTF-8), int, float, bool, None, numpy arrays (not of objects
    or records): native
    others: pickle protocol 5 behind an 8-byte checksum, which is verified
    before anything is unpickled; `codec="safe"` neither writes nor reads them

Types are exact: a subclass of str or int is pickled, and comes back as itself.
"""

from __future__ import annotations

import pickle
import re
import struct
import sys

import xxhash

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.layout import (  # type: ignore[attr-defined]
        VALUE_ARRAY,
        VALUE_BIG_INT,
        VALUE_BYTES,
        VALUE_FALSE,
        VALUE_FLOAT,
        VALUE_INT,
        VALUE_LENGTH_MAX,
        VALUE_NONE,
        VALUE_PICKLE,
        VALUE_STR,
        VALUE_TRUE,
    )

from shmmap.errors import EntryTooLarge, MapCorrupted

COMPILED = cython.compiled
_DTYPE = re.compile(r"[<>=|][?a-zA-Z][0-9]{0,9}(\[[0-9A-Za-z]+\])?")  # as dtype.str has them
_ARRAY_HEAD = struct.Struct("<BBBx")  # dimensions, length of the dtype, 1: Fortran order


def encode(value, safe, out):
    """Encode a value into `out`; give the object that keeps its bytes alive."""
    kept = value
    if type(value) is bytes:
        out.type = VALUE_BYTES
    elif type(value) is str:
        out.type = VALUE_STR
        if cython.compiled:
            out.data = utf8_of(value, cython.address(out.length))
            if out.data == cython.NULL:
                kept = value.encode("utf-8", "surrogatepass")
        else:
            kept = value.encode("utf-8", "surrogatepass")
    elif cython.compiled and type(value) is int and fits_word(value, cython.address(out.small)):
        out.type = VALUE_INT
        out.data = bytes_of_word(cython.address(out.small))
        out.length = 8
    else:
        kind, kept = pack(value, safe)
        out.type = kind
    if not cython.compiled:
        out.data = kept
        out.length = len(kept)
    elif type(kept) is bytes:
        out.data = PyBytes_AS_STRING(kept)
        out.length = PyBytes_GET_SIZE(kept)
    if out.length > VALUE_LENGTH_MAX:
        raise EntryTooLarge(f"the value has {out.length:,} bytes, the limit is 4 GiB: split it")
    return kept


def pack(value: object, safe: object = False) -> tuple:
    """Encode any value as (type, bytes). Raises TypeError where safe forbids pickle."""
    kind = type(value)
    if kind is bytes:
        return VALUE_BYTES, value
    if kind is str:
        return VALUE_STR, value.encode("utf-8", "surrogatepass")  # type: ignore[attr-defined]
    if kind is int:
        if -(1 << 63) <= value < 1 << 63:  # type: ignore[operator]
            return VALUE_INT, struct.pack("=q", value)
        length = (value.bit_length() + 8) // 8  # type: ignore[attr-defined]
        return VALUE_BIG_INT, value.to_bytes(length, "little", signed=True)  # type: ignore[attr-defined]
    if kind is float:
        return VALUE_FLOAT, struct.pack("<d", value)
    if value is None:
        return VALUE_NONE, b""
    if kind is bool:
        return (VALUE_TRUE if value else VALUE_FALSE), b""
    numpy = sys.modules.get("numpy")  # no numpy loaded: no arrays about
    if numpy is not None and kind is numpy.ndarray and not value.dtype.hasobject and (  # type: ignore[attr-defined]
        value.dtype.fields is None and value.dtype.subdtype is None  # type: ignore[attr-defined]
    ):
        return VALUE_ARRAY, _pack_array(value)
    if safe:
        raise TypeError(
            f'codec="safe" stores bytes, str, int, float, bool, None and numpy arrays of plain '
            f"numbers; {kind.__name__} would have to be pickled: encode it yourself (json, "
            f'struct), or create the map with codec="auto" if every process with access is trusted'
        )
    data = pickle.dumps(value, 5)
    return VALUE_PICKLE, struct.pack("<Q", xxhash.xxh3_64_intdigest(data)) + data


def _pack_array(value: object) -> bytes:
    dtype = value.dtype.str.encode()  # type: ignore[attr-defined]
    fortran = value.flags.f_contiguous and not value.flags.c_contiguous  # type: ignore[attr-defined]
    shape = value.shape  # type: ignore[attr-defined]
    head = _ARRAY_HEAD.pack(len(shape), len(dtype), fortran)
    head += struct.pack(f"<{len(shape)}q", *shape) + dtype
    return head + value.tobytes("A")  # type: ignore[attr-defined,no-any-return]


def _unpack_array(data: bytes) -> object:
    import numpy

    try:
        dimensions, dtype_length, fortran = _ARRAY_HEAD.unpack_from(data)
        shape = struct.unpack_from(f"<{dimensions}q", data, 4)
        at = 4 + 8 * dimensions
        name = data[at : at + dtype_length].decode("ascii")
        if not _DTYPE.fullmatch(name):  # numpy evaluates some others
            raise ValueError(f"{name!r} is not a type of plain items")
        dtype = numpy.dtype(name)
        if dtype.hasobject:
            raise ValueError("an array of objects")
        order = "F" if fortran else "C"
        flat = numpy.frombuffer(bytearray(data[at + dtype_length :]), dtype)
        return flat.reshape(shape, order=order)  # type: ignore[call-overload]
    except (ValueError, TypeError, struct.error, UnicodeDecodeError) as error:
        raise MapCorrupted(f"an array value cannot be read: {error}") from None


def decode(value_type, data, safe):
    """Give the value that was encoded. Raises MapCorrupted for bytes that none gives."""
    if value_type == VALUE_BYTES:
        return data
    if value_type == VALUE_STR:
        try:
            return data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise MapCorrupted(f"a str value is not UTF-8: {error}") from None
    if value_type == VALUE_INT and len(data) == 8:
        return struct.unpack("=q", data)[0]
    if value_type == VALUE_NONE:
        return None
    if value_type == VALUE_TRUE:
        return True
    if value_type == VALUE_FALSE:
        return False
    if value_type == VALUE_FLOAT and len(data) == 8:
        return struct.unpack("<d", data)[0]
    if value_type == VALUE_BIG_INT:
        return int.from_bytes(data, "little", signed=True)
    if value_type == VALUE_ARRAY:
        return _unpack_array(data)
    if value_type == VALUE_PICKLE:
        return _unpickle(data, safe)
    raise MapCorrupted(f"{len(data)} bytes of value type {value_type} are not a value")


def _unpickle(data: bytes, safe: object) -> object:
    _verify_pickle(data)  # first: a type that was damaged is no pickle
    if safe:
        raise TypeError(
            'this value is a pickle, which codec="safe" does not load: it was written by a '
            'handle with codec="auto"'
        )
    return pickle.loads(memoryview(data)[8:])


def _verify_pickle(data: bytes) -> None:
    if len(data) < 8 or xxhash.xxh3_64_intdigest(data[8:]) != struct.unpack_from("<Q", data)[0]:
        raise MapCorrupted("a pickled value does not match its checksum; it was not loaded")


def verify(value_type: object, data: bytes) -> None:
    """Raise MapCorrupted for bytes that no value gives. Loads no pickle."""
    if value_type == VALUE_PICKLE:
        _verify_pickle(data)
    else:
        decode(value_type, data, True)


def unpack(value_type: object, data: bytes, safe: object = False) -> object:
    """Decode a value, for Python callers: the inverse of `pack`."""
    return decode(value_type, data, safe)
