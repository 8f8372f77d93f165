"""Entries that are well-formed and still cannot be read: their own bytes were damaged.

Nothing in a shard's structure shows them, and one of them would end every
listing of the map with MapCorrupted. `check` names them, `repair` drops them.
Works on a copy of a shard, so that nobody waits while bytes are decoded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from . import _codecs_cy, _keys_cy
from .errors import MapCorrupted
from .geometry import Geometry
from .layout import constants

K = constants()


def unreadable(copied: bytearray, shape: Geometry) -> Iterator[tuple[int, int, str]]:
    """List the (slot, version, reason) of the live entries of a copied shard whose key or value
    is not as it would be written. Broken lengths and chains are `Repairer.problems`' to name."""
    words = memoryview(copied).cast("Q")
    first, step = shape.areas.slots >> 3, shape.slot_size >> 3
    for slot in range(1, shape.slots + 1):
        version, meta = words[first + (slot - 1) * step : first + (slot - 1) * step + 2]
        if version:
            try:
                _read(copied, shape, slot, meta)
            except MapCorrupted as error:
                yield slot, version, str(error)


def _read(copied: bytearray, shape: Geometry, slot: int, meta: int) -> None:
    """Verify a key and its value."""
    key_length = meta & K["KEY_LENGTH_MASK"]
    value_type = meta >> K["META_VALUE_TYPE_SHIFT"] & K["TYPE_MASK"]
    start = -(-key_length // 8) * 8 if value_type == K["VALUE_INT"] else key_length
    end = start + (meta >> K["META_LENGTH_SHIFT"])
    if end <= shape.max_entry_bytes:
        data = _chain_bytes(copied, shape, slot, end)
        if len(data) >= end:
            key_type = meta >> K["META_KEY_TYPE_SHIFT"] & K["KEY_TYPE_MASK"]
            _keys_cy.unpack(key_type, data[:key_length])
            _codecs_cy.verify(value_type, data[start:end])


def _chain_bytes(copied: bytearray, shape: Geometry, slot: int, length: int) -> bytes:
    """Read `length` bytes, or as many as there are, of the chain that starts at a slot."""
    areas, size = shape.areas, shape.slot_size
    found, skip = b"", 16
    while len(found) < length and 1 <= slot <= shape.slots:
        start = areas.slots + (slot - 1) * size
        found += copied[start + skip : start + size]
        following = copied[areas.next + 4 * slot : areas.next + 4 * slot + 4]
        slot, skip = int.from_bytes(following, sys.byteorder) & K["NEXT_MASK"], 8
    return found
