# mypy: ignore-errors
"""Values as bytes: the common types natively, everything else by pickle.

    bytes, str (UTF-8), int, float, bool, None, numpy arrays of numpy's own plain
    types: native
    containers of such, and what `others` has: see `_packing_cy`; maps with a
    codec of their own leave them to it
    others: pickle protocol 5 behind an 8-byte checksum, which is verified
    before anything is unpickled; `codec="safe"` neither writes nor reads them;
    every other codec has its own bytes there, behind the same checksum

Types are exact: a subclass of str or int is pickled, and comes back as itself.
What is stored natively can be verified without numpy, by `verify`.
"""

from __future__ import annotations

import math
import pickle
import re
import struct
from types import GetSetDescriptorType

import xxhash

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        VALUE_ARRAY,
        VALUE_BIG_INT,
        VALUE_BYTES,
        VALUE_CODED,
        VALUE_FALSE,
        VALUE_FLOAT,
        VALUE_INT,
        VALUE_ITEMS,
        VALUE_LENGTH_MAX,
        VALUE_NONE,
        VALUE_PICKLE,
        VALUE_STR,
        VALUE_TRUE,
    )
    from shmmap.values._octets import octets_at, real64, text
    from shmmap.values._packing_cy import pack_items
    from shmmap.values._unpacking_cy import unpack_items

from shmmap.errors import EntryTooLarge, MapCorrupted, ShmMapError
from shmmap.values.others import why_not

COMPILED = cython.compiled


class OfTheValue(Exception):
    """Decoding a value raised an error of this package, its cause. See `unreadable.py`."""


# what dtype.str says of the types that numpy makes anew from it, and of no others
_DTYPE = re.compile(
    rb"[|<>=]b1|[|<>=](?:[iu][1248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)|S[1-9]\d{0,8}|U[1-9]\d{0,8}"
    rb"|V[1-9]\d{0,8}|[mM]8(?:\[\d{0,10}(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?)"
)
_BUILT_IN = 24  # numpy's own types have lower numbers than what other packages register
_ARRAY_HEAD = struct.Struct("<BBBx")  # dimensions, length of the dtype, 1: Fortran order


def encode(value, coder, out):
    """Encode a value into `out`; return the object that keeps its bytes alive. `coder`: as for
    `pack`."""
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
    elif cython.compiled and type(value) is float:
        out.type = VALUE_FLOAT
        out.small = bits_of_real(value)  # little-endian
        out.data = bytes_of_word(cython.address(out.small))
        out.length = 8
    elif type(coder) is bool and is_container(value):
        out.type = VALUE_ITEMS
        kept = pack_items(value)
        if kept is None:
            kind, kept = pack_by(coder, value, type(value).__name__)
            out.type = kind
    else:
        kind, kept = pack(value, coder)
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


def is_container(value):
    """Tell whether a value is a container that has bytes of its own kind."""
    kind = type(value)
    return kind is dict or kind is list or kind is tuple or kind is set or kind is frozenset


def pack(value: object, coder: object = False) -> tuple:
    """Encode any value as (type, bytes). `coder`: of what is not native; False: pickle, True: none,
    which raises TypeError, or a codec: see `codecs`."""
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
    if type(coder) is bool:
        items = pack_items(value)
        if items is not None:
            return VALUE_ITEMS, items
    what: str = kind.__name__
    if what == "ndarray" and _is_of_numpy(kind):
        dtype = _plain_dtype(value.dtype)  # type: ignore[attr-defined]
        if dtype:
            return VALUE_ARRAY, _pack_array(value, dtype)
        what = f"an array of {value.dtype}"  # type: ignore[attr-defined]
    return pack_by(coder, value, what)


def pack_by(coder: object, value: object, what: object) -> tuple:
    """Encode what is not native, which is called that: see `pack`."""
    if coder is True:
        raise TypeError(
            f'codec="safe" stores bytes, str, int, float, bool, None, dates and times, Decimal, '
            f"UUID, containers of these, and numpy arrays of plain numbers; {why_not(value, what)} "
            f"would have to be pickled: encode it yourself (json, struct), or create the map with "
            f'codec="auto" if every process with access is trusted'
        )
    if coder is False:
        data = pickle.dumps(value, 5)
        return VALUE_PICKLE, struct.pack("<Q", xxhash.xxh3_64_intdigest(data)) + data
    data = coder.dumps(value)  # type: ignore[attr-defined]
    if type(data) is not bytes:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(
                f"codec {coder.name!r}: dumps must return bytes, not {type(data).__name__}"  # type: ignore[attr-defined]
            )
        data = bytes(data)
    return VALUE_CODED, struct.pack("<Q", xxhash.xxh3_64_intdigest(data)) + data


def _is_of_numpy(kind: object) -> bool:
    """Tell numpy's class from others of its name. `sys.modules` does not say: while another thread
    imports numpy, or where a test put something in its place, numpy has no `ndarray` there."""
    return kind.__module__ == "numpy" and (
        type(kind.__dict__.get("dtype")) is GetSetDescriptorType  # written in C
    )


def _plain_dtype(dtype: object) -> bytes:
    """Return the name from which numpy makes an equal dtype again; empty: there is none.

    Others print a name too, which then is an error (float8) or another type (bfloat16, V2).
    """
    name: bytes = dtype.str.encode()  # type: ignore[attr-defined]
    if (
        dtype.num >= _BUILT_IN or dtype.metadata is not None  # type: ignore[attr-defined]
        or dtype.names is not None or dtype.subdtype is not None  # type: ignore[attr-defined]
        or (dtype.kind == "V" and dtype.type.__name__ != "void")  # type: ignore[attr-defined]
        or _DTYPE.fullmatch(name) is None
    ):
        return b""
    return name


def _pack_array(value: object, dtype: bytes) -> bytes:
    fortran = value.flags.f_contiguous and not value.flags.c_contiguous  # type: ignore[attr-defined]
    shape = value.shape  # type: ignore[attr-defined]
    head = _ARRAY_HEAD.pack(len(shape), len(dtype), fortran)
    head += struct.pack(f"<{len(shape)}q", *shape) + dtype
    return head + value.tobytes("A")  # type: ignore[attr-defined,no-any-return]


def _read_head(data: bytes) -> tuple:
    """Return (dtype, shape, order, offset of the items) of an array; numpy is not needed."""
    try:
        dimensions, dtype_length, fortran = _ARRAY_HEAD.unpack_from(data)
        shape = struct.unpack_from(f"<{dimensions}q", data, 4)
    except struct.error as error:
        raise MapCorrupted(f"an array value is cut off: {error}") from None
    at = 4 + 8 * dimensions + dtype_length
    name = data[at - dtype_length : at]
    if not _DTYPE.fullmatch(name):  # numpy evaluates some others
        raise MapCorrupted(f"an array value cannot be read: {name!r} is not a type of plain items")
    dtype = name.decode()
    number = re.match(r"[0-9]*", dtype[2:])
    item_bytes = int(number[0]) * (4 if dtype[1] == "U" else 1)  # type: ignore[index]
    if min(shape, default=0) < 0 or math.prod(shape) * item_bytes != len(data) - at:
        raise MapCorrupted(
            f"an array value cannot be read: {len(data) - at} bytes for items {dtype} of {shape}"
        )
    return dtype, shape, ("F" if fortran else "C"), at


def _unpack_array(data: bytes) -> object:
    dtype, shape, order, at = _read_head(data)
    import numpy

    try:
        flat = numpy.frombuffer(bytearray(memoryview(data)[at:]), dtype)
        return flat.reshape(shape, order=order)
    except (ValueError, TypeError) as error:
        raise MapCorrupted(f"an array value cannot be read: {error}") from None


def decode(value_type, data, safe):
    """Return the value that was encoded. Raises MapCorrupted for bytes that none gives."""
    if value_type == VALUE_BYTES:
        return data
    if value_type == VALUE_STR:
        try:
            return data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise MapCorrupted(f"a str value is not UTF-8: {error}") from None
    if value_type == VALUE_INT and len(data) == 8:
        if cython.compiled:
            return word_of(data)
        return struct.unpack("=q", data)[0]
    if value_type == VALUE_NONE:
        return None
    if value_type == VALUE_TRUE:
        return True
    if value_type == VALUE_FALSE:
        return False
    if value_type == VALUE_FLOAT and len(data) == 8:
        if cython.compiled:
            return real64(data, 0)
        return struct.unpack("<d", data)[0]
    if value_type == VALUE_ITEMS:
        return unpack_items(data)
    if value_type == VALUE_BIG_INT:
        return int.from_bytes(data, "little", signed=True)
    if value_type == VALUE_ARRAY:
        return _unpack_array(data)
    if value_type == VALUE_PICKLE:
        return _unpickle(data, safe)
    raise MapCorrupted(f"{len(data)} bytes of value type {value_type} are not a value")


def decode_at(value_type, data, length):
    """The same of the types that are decoded from any memory: VALUES_ANYWHERE. Compiled only."""
    if not cython.compiled:
        return decode(value_type, data, True)
    if value_type == VALUE_ITEMS:
        return read_items(data, length)
    if value_type == VALUE_STR:
        try:
            return text(data, 0, length)
        except UnicodeDecodeError as error:
            raise MapCorrupted(f"a str value is not UTF-8: {error}") from None
    if value_type == VALUE_INT and length == 8:
        return word_at(data)
    if value_type == VALUE_FLOAT and length == 8:
        return real64(data, 0)
    return decode(value_type, octets_at(data, 0, length), True)


def decode_coded(data: bytes, coder: object) -> object:
    """Return the value that a map's codec has encoded."""
    _verify_sum(data)
    if coder is True or coder is False:
        raise MapCorrupted(
            f'a value was encoded by a codec, in a map of codec="{"safe" if coder else "auto"}"'
        )
    try:
        return coder.loads(bytes(memoryview(data)[8:]))  # type: ignore[attr-defined]
    except ShmMapError as error:  # as for a pickle
        raise OfTheValue from error


def _unpickle(data: bytes, safe: object) -> object:
    _verify_sum(data)  # first: a type that was damaged is no pickle
    if safe:
        raise TypeError(
            'this value is a pickle, which codec="safe", as every codec but "auto", does not load: '
            "no handle of this map wrote it"
        )
    try:
        return pickle.loads(memoryview(data)[8:])
    except ShmMapError as error:  # of another map: it must not pass for one about this map
        raise OfTheValue from error


def _verify_sum(data: bytes) -> None:
    total = struct.unpack_from("<Q", data)[0] if len(data) >= 8 else None
    if total is None or xxhash.xxh3_64_intdigest(memoryview(data)[8:]) != total:
        raise MapCorrupted("an encoded value does not match its checksum; it was not loaded")


def verify(value_type: object, data: bytes) -> None:
    """Raise MapCorrupted for bytes that no value gives. Loads no pickle, and no numpy."""
    if value_type in (VALUE_PICKLE, VALUE_CODED):
        _verify_sum(data)
    elif value_type == VALUE_ARRAY:
        _read_head(data)
    else:
        decode(value_type, data, True)


def unpack(value_type: object, data: bytes, coder: object = False) -> object:
    """Decode a value, for Python callers: the inverse of `pack`."""
    if value_type == VALUE_CODED:
        return decode_coded(data, coder)
    return decode(value_type, data, coder is not False)
