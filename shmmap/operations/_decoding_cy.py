# mypy: ignore-errors
"""Decoding what was read from a map: errors name the map and the key. No shard is held meanwhile:
pickles run code.
"""

from __future__ import annotations

from functools import partial

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import u64
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        KEY_TYPE_MASK,
        META_KEY_TYPE_SHIFT,
        META_LENGTH_SHIFT,
        META_VALUE_TYPE_SHIFT,
        TYPE_MASK,
        VALUE_BYTES,
        VALUE_CODED,
        VALUE_INT,
        VALUE_ITEMS,
    )
    from shmmap.shard._lookup_cy import INSIDE
    from shmmap.values._codecs_cy import decode as decode_value
    from shmmap.values._codecs_cy import decode_at
    from shmmap.values._keys_cy import decode as decode_key
    from shmmap.values._octets import octets_at

from shmmap.errors import MapCorrupted
from shmmap.operations.unreadable import error_for_value
from shmmap.values._codecs_cy import decode_coded
from shmmap.values._codecs_cy import unpack as decode_again

COMPILED = cython.compiled


def value_of(handle, raw, found, key):
    """Decode a value that was confirmed."""
    kind: u64 = (found.meta >> META_VALUE_TYPE_SHIFT) & TYPE_MASK
    if kind == VALUE_BYTES:
        return raw
    if cython.compiled and raw is INSIDE:
        if kind == VALUE_INT and found.meta >> META_LENGTH_SHIFT == 8:
            return word_at(found.inside)
        return inside_value(handle, kind, found, key)
    return decoded_value(handle, kind, raw, key)


def raw_of(raw, found):
    """Return a value's bytes as an object, wherever they are."""
    if cython.compiled and raw is INSIDE:
        return bytes_inside(found)
    return raw


def inside_value(handle, kind, found, key):
    """Decode a value that was copied into the probe: see Shard.copy_value."""
    try:
        return decode_at(kind, found.inside, found.meta >> META_LENGTH_SHIFT)
    except BaseException as error:
        raise error_of(handle, kind, bytes_inside(found), key, error)  # noqa: B904


def bytes_inside(found):
    """Return the bytes of a value that is in the probe as an object."""
    return octets_at(found.inside, 0, found.meta >> META_LENGTH_SHIFT)


def decoded_value(handle, kind, raw, key):
    """Decode a value; have the error name map and key."""
    try:
        if kind == VALUE_CODED:
            return decode_coded(raw, handle._coder)
        return decode_value(kind, raw, handle.safe)
    except BaseException as error:
        raise error_of(handle, kind, raw, key, error)  # noqa: B904


def error_of(handle, kind, raw, key, error):
    """Return the error to raise for one of decoding these bytes: perhaps itself."""
    if kind == VALUE_ITEMS and isinstance(error, RecursionError):
        return error  # of how deep in calls this process is, pure: no fault of the value's
    again = partial(decode_again, kind, raw, handle._coder)
    return error_for_value(error, handle.name, key, again)


def decode_listed(handle, kind, raw, key):
    """Decode a value that `list_raw` listed."""
    return raw if kind == VALUE_BYTES else decoded_value(handle, kind, raw, key)


def key_of(handle, raw, found):
    """Decode a key that was confirmed."""
    try:
        return decode_key((found.meta >> META_KEY_TYPE_SHIFT) & KEY_TYPE_MASK, raw)
    except MapCorrupted as error:
        raise MapCorrupted(
            f"map {handle.name!r}: a key cannot be read: {error}. m.check() lists what is wrong, "
            "m.repair() drops what cannot be read"
        ) from None
