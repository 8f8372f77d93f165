# mypy: ignore-errors
"""Decoding what was read from a map: errors name the map and the key.
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import u64
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        KEY_TYPE_MASK,
        META_KEY_TYPE_SHIFT,
        META_VALUE_TYPE_SHIFT,
        TYPE_MASK,
        VALUE_BYTES,
    )
    from shmmap.operations._handle_cy import Handle
    from shmmap.values._codecs_cy import decode as decode_value
    from shmmap.values._keys_cy import decode as decode_key

from shmmap.errors import MapCorrupted
from shmmap.values._codecs_cy import unreadable

COMPILED = cython.compiled


class Decoding(Handle):
    """A handle that decodes. No shard is held meanwhile: pickles run code."""

    if not cython.compiled:
        copying = None

    def value_of(self, raw, found, key):
        """Decode a value that was confirmed."""
        kind: u64 = (found.meta >> META_VALUE_TYPE_SHIFT) & TYPE_MASK
        return raw if kind == VALUE_BYTES else self.decoded_value(kind, raw, key)

    def decoded_value(self, kind, raw, key):
        """Decode a value; have the error name map and key."""
        try:
            return decode_value(kind, raw, self.safe)
        except BaseException as error:
            raise unreadable(error, self.name, key)  # noqa: B904  # in most cases itself

    def _decode(self, kind: Any, raw: Any, key: Any) -> Any:
        """Decode a value that `_scan_raw` listed."""
        return raw if kind == VALUE_BYTES else self.decoded_value(kind, raw, key)

    def key_of(self, raw, found):
        """Decode a key that was confirmed."""
        try:
            return decode_key((found.meta >> META_KEY_TYPE_SHIFT) & KEY_TYPE_MASK, raw)
        except MapCorrupted as error:
            raise MapCorrupted(
                f"map {self.name!r}: a key cannot be read: {error}. m.check() lists what is wrong, "
                "m.repair() drops what cannot be read"
            ) from None

    def _copy_by(self, copying: Any) -> None:
        """Have each lookup go by this object, or by none: see `copying`."""
        self.copying = copying
