# mypy: ignore-errors
"""Keys as bytes: equal keys give equal bytes, as Python's dict has them equal.

    str    UTF-8 (lone surrogates pass)
    bytes  themselves
    int    8 bytes, little-endian; more where it needs more. bool, and floats
           that are whole, are encoded as the int they equal
    float  8 bytes IEEE 754, little-endian
    None   nothing
    tuple  for each item: type byte, 4 bytes of length, its bytes
    date, datetime, UUID, Decimal, frozenset, members of an Enum: see `more_keys`

numpy's scalars stand for the Python numbers they equal. NaN equals nothing,
not even itself, and is refused. A key comes back from iteration as the first
form here that equals it: `True` as `1`, `2.0` as `2`.
"""

from __future__ import annotations

import struct

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._hash_cy import hash_key
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        KEY_BYTES,
        KEY_FLOAT,
        KEY_FROZENSET,
        KEY_INT,
        KEY_LENGTH_MASK,
        KEY_MEMBER,
        KEY_NONE,
        KEY_STR,
        KEY_TUPLE,
    )

from shmmap.errors import EntryTooLarge, MapCorrupted
from shmmap.values.more_keys import PackedKey, pack_more, unpack_more

COMPILED = cython.compiled
BEYOND = 1 << 40  # added to the length of a key that is too long to be stored
NESTED_AT_MOST = 100  # tuples in a key: compiled code has no recursion limit but its stack
_KINDS = ("str, bytes, int, float, bool, None, date, datetime, UUID, Decimal, a member of an Enum, "
          "or a tuple or frozenset of these")


def encode(key, seed, out):
    """Encode and hash a key into `out`; return the object that keeps its bytes alive."""
    kept = key
    out.seed = seed
    if type(key) is str:
        out.type = KEY_STR
        if cython.compiled:
            out.data = utf8_of(key, cython.address(out.length))
            if out.data == cython.NULL:
                kept = key.encode("utf-8", "surrogatepass")
        else:
            kept = key.encode("utf-8", "surrogatepass")
    elif type(key) is bytes:
        out.type = KEY_BYTES
    elif cython.compiled and type(key) is int and fits_word(key, cython.address(out.small)):
        out.type = KEY_INT
        out.data = bytes_of_word(cython.address(out.small))
        out.length = 8
        out.hash = hash_key(out.data, out.length, out.type, seed)
        return key
    else:
        kind, kept = pack(key)
        out.type = kind
    if not cython.compiled:
        out.data = kept
        out.length = len(kept)
    elif type(kept) is bytes:
        out.data = PyBytes_AS_STRING(kept)
        out.length = PyBytes_GET_SIZE(kept)
    out.hash = hash_key(out.data, out.length, out.type, seed)
    if out.length > KEY_LENGTH_MASK:  # no entry has it, so to look for it is a miss, and no
        out.length += BEYOND  # shard has so much room: see `refuse_long`
    return kept


def rehash(key, seed):
    """Hash an encoded key anew, for a map of another seed."""
    if key.length <= KEY_LENGTH_MASK:  # one that is longer is in no map
        key.hash = hash_key(key.data, key.length, key.type, seed)
    key.seed = seed
    return 0


def refuse_long(length):
    """Raise EntryTooLarge for a key that `encode` found to be too long to be stored."""
    if length > KEY_LENGTH_MASK:
        raise EntryTooLarge(
            f"the key has {length - BEYOND:,} encoded bytes, the limit is {KEY_LENGTH_MASK:,}: "
            "use a digest of it as the key and keep the long form in the value"
        )
    return 0


def pack(key: object) -> tuple:
    """Encode any key as (type, bytes). Raises TypeError for what cannot be a key.

    Subclasses count as the built-in class that they are compared and hashed as. Their other
    methods are not asked, since a dict does not ask them either.
    """
    return _pack_at(key, 0)


def _pack_at(key: object, depth: object) -> tuple:
    """Encode what lies so deep in a key."""
    if _compares_as(key, str):
        return KEY_STR, str.encode(key, "utf-8", "surrogatepass")  # type: ignore[arg-type]
    if _compares_as(key, bytes):
        return KEY_BYTES, bytes.__getitem__(key, slice(None))  # type: ignore[arg-type]
    if _compares_as(key, int):
        return KEY_INT, _int_bytes(int.__int__(key))  # type: ignore[arg-type]
    if _compares_as(key, float):
        return _pack_float(float.__float__(key))  # type: ignore[arg-type]
    if key is None:
        return KEY_NONE, b""
    if type(key) is PackedKey:
        return key[1], key[2]  # type: ignore[index]
    if _compares_as(key, tuple):
        return KEY_TUPLE, b"".join(_pack_items(tuple.__iter__(key), depth))  # type: ignore[arg-type]
    if type(key).__module__ == "numpy" and getattr(key, "ndim", 1) == 0 and (
        key.dtype.kind in "biufSU"  # type: ignore[attr-defined]
    ):
        plain = key.item()  # type: ignore[attr-defined]
        if type(plain) is not type(key) and plain == key and hash(plain) == hash(key):
            return _pack_at(plain, depth)
    more = pack_more(key, depth, _compares_as, _pack_items)
    if more is not None:
        return more
    hash(key)  # an unhashable key gets the error that a dict would raise
    own = any(isinstance(key, kind) for kind in (str, bytes, int, float, tuple, frozenset))
    raise TypeError(
        f"a key must be {_KINDS}; {type(key).__name__} is not"
        + (", having its own __eq__ or __hash__" if own else "")
    )


def _compares_as(key: object, kind: object) -> bool:
    """Tell whether a key is of a built-in class, or of a subclass that dicts take for that."""
    mine = type(key)
    return mine is kind or (
        issubclass(mine, kind)  # type: ignore[arg-type]
        and mine.__hash__ in (kind.__hash__, bool.__hash__)
        and mine.__eq__ in (kind.__eq__, bool.__eq__)
    )


def _pack_items(items: object, depth: object) -> list:
    """Encode what a tuple or the like has in it: type byte, length and bytes of each."""
    depth = depth + 1  # type: ignore[operator]
    if depth > NESTED_AT_MOST:  # type: ignore[operator]
        raise TypeError(f"a key's tuples may be nested {NESTED_AT_MOST} deep, not deeper")
    parts = []
    for item in items:  # type: ignore[attr-defined]
        kind, data = _pack_at(item, depth)
        parts.append(struct.pack("<BI", kind, len(data)) + data)
    return parts


def _int_bytes(key: object) -> bytes:
    length = 8 if -(1 << 63) <= key < 1 << 63 else (key.bit_length() + 8) // 8  # type: ignore[operator,attr-defined]
    return key.to_bytes(length, "little", signed=True)  # type: ignore[attr-defined,no-any-return]


def _pack_float(key: object) -> tuple:
    if key != key:
        raise TypeError("NaN cannot be a key: it does not equal itself, so no lookup finds it")
    if key.is_integer():  # type: ignore[attr-defined]
        return KEY_INT, _int_bytes(int(key))  # type: ignore[call-overload]
    return KEY_FLOAT, struct.pack("<d", key)


def decode(key_type, data):
    """Return the key that was encoded. Raises MapCorrupted for bytes that none gives: were they
    read as a key all the same, a listing could have another entry's key twice."""
    if key_type == KEY_STR:
        try:
            return data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise MapCorrupted(f"a str key is not UTF-8: {error}") from None
    if key_type == KEY_BYTES:
        return data
    if key_type == KEY_INT and len(data) >= 8:
        number = int.from_bytes(data, "little", signed=True)
        if len(data) == 8 or _int_bytes(number) == data:
            return number
    if key_type == KEY_FLOAT and len(data) == 8:
        number = struct.unpack("<d", data)[0]
        if number == number and not number.is_integer():
            return number
    if key_type == KEY_NONE and not data:
        return None
    if key_type == KEY_TUPLE:
        return tuple(_decode_items(data, 0)[1])
    return unpack_more(key_type, data, 0, _decode_items)


def _decode_at(key_type: object, data: bytes, depth: object) -> object:
    """Decode what lies so deep in a key."""
    if key_type == KEY_TUPLE:
        return tuple(_decode_items(data, depth)[1])
    if key_type in (KEY_FROZENSET, KEY_MEMBER):
        return unpack_more(key_type, data, depth, _decode_items)
    return decode(key_type, data)


def _decode_items(data: bytes, depth: object) -> tuple:
    """Return the bytes of what a tuple or the like has in it, and what they stand for."""
    depth = depth + 1  # type: ignore[operator]
    if depth > NESTED_AT_MOST:  # type: ignore[operator]
        raise MapCorrupted("a tuple key is nested too deeply")
    parts = []
    items = []
    at = 0
    while at < len(data):
        if at + 5 > len(data):
            raise MapCorrupted("a tuple key is cut off")
        kind, length = struct.unpack_from("<BI", data, at)
        end = at + 5 + length
        if end > len(data):
            raise MapCorrupted("a tuple key is cut off")
        parts.append(data[at:end])
        items.append(_decode_at(kind, data[at + 5 : end], depth))
        at = end
    return parts, items


def unpack(key_type: object, data: bytes) -> object:
    """Decode a key, for Python callers: the inverse of `pack`."""
    return decode(key_type, data)
