# mypy: ignore-errors
"""Writing entries as the bytes they are: for merging copies, where nothing is encoded or decoded.
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import key_t, new_key, new_value, value_t
    from shmmap.memory._hash_cy import hash_key
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        KEY_LENGTH_MASK,
        VALUE_LENGTH_MAX,
        VALUE_PICKLE,
    )
    from shmmap.shard._status import IF_NEWER

from shmmap.errors import DumpCorrupted, MapCorrupted
from shmmap.values._codecs_cy import verify
from shmmap.values._keys_cy import unpack

COMPILED = cython.compiled


def write_raw(
    handle: Any, key_type: Any, raw_key: Any, value_type: Any, raw_value: Any, deadline_ns: Any,
    limit: Any,
) -> bool:
    """Write an encoded entry, unless its key has a live one of version `limit` or newer; tell
    whether it was written.

    Test and write are one step under the shard's lock. The entry gets a new version of this
    map. `deadline_ns`: by the map's clock, 0: none. What no map would have written is
    refused before: bytes from a file must not harm a map. Pickles are checked, not loaded.
    Raises DumpCorrupted, TypeError (a pickle, codec="safe"), MapFull, EntryTooLarge,
    LockTimeout.
    """
    packed: key_t = new_key()
    encoded: value_t = new_value()
    key: Any = _verify(key_type, raw_key, value_type, raw_value)
    if not 0 <= deadline_ns < 1 << 63 or not 0 <= limit < 1 << 63:
        raise DumpCorrupted(f"{deadline_ns} is no deadline, or {limit} no version")
    if handle.safe and value_type == VALUE_PICKLE:
        raise TypeError(
            f"map {handle.name!r} has a codec that takes no pickles, and this value is one: create "
            'the map with codec="auto" if every process with access is trusted'
        )
    packed.type = key_type
    packed.length = len(raw_key)
    encoded.type = value_type
    encoded.length = len(raw_value)
    if cython.compiled:
        packed.data = PyBytes_AS_STRING(raw_key)
        encoded.data = PyBytes_AS_STRING(raw_value)
    else:
        packed.data = raw_key
        encoded.data = raw_value
    packed.seed = handle.seed
    packed.hash = hash_key(packed.data, packed.length, packed.type, packed.seed)
    return handle.commit(key, packed, encoded, IF_NEWER, deadline_ns, limit)


def _verify(key_type: Any, raw_key: Any, value_type: Any, raw_value: Any) -> Any:
    """Return the key; refuse what is not the bytes of a key and a value. Loads no pickle."""
    if type(raw_key) is not bytes or type(raw_value) is not bytes:
        raise TypeError("a raw entry's key and value must be bytes")
    if len(raw_key) > KEY_LENGTH_MASK or len(raw_value) > VALUE_LENGTH_MAX:
        raise DumpCorrupted(f"no entry has {len(raw_key):,} and {len(raw_value):,} bytes")
    try:
        key: Any = unpack(key_type, raw_key)
        verify(value_type, raw_value)
        return key
    except MapCorrupted as error:
        raise DumpCorrupted(f"not an entry: {error}") from None
