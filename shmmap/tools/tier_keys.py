"""The keys that a `Tiered` has in a map for itself: see `tiers.freshness`, `watching`."""

from __future__ import annotations

from typing import Any

from ..checks import Key
from ..memory.layout import constants
from ..tiers.store_keys import RESERVED
from ..values._keys_cy import pack, unpack
from ..values.more_keys import packed_key

_TUPLE = constants()["KEY_TUPLE"]


def _start(*items: str) -> bytes:
    data: bytes = pack((RESERVED, *items))[1]
    return data


_STATE, _DRAINED = _start("state"), _start("drained until")


def is_state(key_type: int, key: bytes) -> bool:
    """Tell whether an encoded key is that of what is known of a tier's copies."""
    return key_type == _TUPLE and key.startswith(_STATE)


def feed_key(key_type: int, key: bytes) -> Key:
    """Return the key of the lock of the process that hears what changes; given that of what is
    known, encoded."""
    return RESERVED, "feed", packed_key(key_type, key)


def lock_keys(key_type: int, key: bytes) -> list[Key]:
    """List the keys of the locks that a tier has whose own key, encoded, this is."""
    if is_state(key_type, key):
        return [feed_key(key_type, key)]
    if key_type == _TUPLE and key.startswith(_DRAINED):  # in a journal
        place: Any = unpack(key_type, key)
        return [(RESERVED, "drain", place[-1])]
    return []
