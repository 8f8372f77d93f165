"""Checking a map's shards, the lock shard among them, and repairing what was damaged.

Beside what a shard's structure shows there are entries that are well-formed and
still cannot be read: their own bytes were damaged. One of them would end every
listing of the map with MapCorrupted. A check names them, a repair drops them.
Both work on a copy of a shard, so that nobody waits while bytes are decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..errors import MapCorrupted
from ..memory.geometry import Geometry
from ..memory.layout import constants
from ..memory.table import UNITS
from ..memory.words import ShardWords
from ..operations._care_cy import copy_shard, end_entries, rebuild_shard
from ..operations.routing import ShardMoved, at_unit
from ..shard._checking_cy import Checker
from ..shard._shard_cy import Shard
from ..values import _codecs_cy, _keys_cy

if TYPE_CHECKING:
    from ..locks.hosts import MapHandle
    from ..locks.lock_table import LockShard, LockTable
    from .attachment import Attachment
    from .places import Place

K = constants()


def unreadable(copied: bytearray, shape: Geometry) -> Iterator[tuple[int, int, str]]:
    """List the (slot, version, reason) of the live entries of a copied shard whose key or value
    is not as it would be written. Broken lengths and chains are `Checker.problems`' to name."""
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
            if value_type != K["VALUE_TOMBSTONE"]:
                _codecs_cy.verify(value_type, data[start:end])


def _chain_bytes(copied: bytearray, shape: Geometry, slot: int, length: int) -> bytes:
    """Read `length` bytes, or as many as there are, of the chain that starts at a slot."""
    areas, size = shape.areas, shape.slot_size
    whole = memoryview(copied)
    following = whole[areas.next : areas.next + 4 * (shape.slots + 1)].cast("I")
    # joined once: what was found is not copied again with each slot
    parts, missing, skip = [], length, 16
    while missing > 0 and 1 <= slot <= shape.slots:
        start = areas.slots + (slot - 1) * size
        parts.append(whole[start + skip : start + size])
        missing -= size - skip
        slot, skip = following[slot] & K["NEXT_MASK"], 8
    return b"".join(parts)


def in_turn(attached: Attachment, act: Callable[[Shard | None], object]) -> None:
    """Have something done with each shard, and then with the lock shard (None). Where one moves
    meanwhile, what has come after it is taken, and none of those before again: else what takes
    longer than from one move to the next would never end."""
    unit = 0
    while unit < UNITS:
        shard = at_unit(attached.shards, unit)
        try:
            act(shard)
        except ShardMoved:
            continue
        unit = shard.unit_after()
    act(None)


def label(attached: Attachment, shard: Shard | None) -> str:
    """Name a shard; None: the lock shard."""
    return str(attached.locks.label) if shard is None else f"shard {shard.number}"


def place_of(attached: Attachment, shard: Shard) -> Place:
    """Return where a shard is mapped. Call it, and use that, inside an operation: else another
    thread may unmap it. Raises ShardMoved."""
    place = attached.places.find(shard)
    if place is None:  # it has been unmapped, so it has moved
        raise ShardMoved("a shard has moved")
    return place


def _part(
    m: MapHandle, attached: Attachment, shard: Shard | None
) -> tuple[MapHandle | LockTable, Attachment | LockShard, Shard, Geometry]:
    """Return the handle on a shard, what it is attached to, the shard, and its layout."""
    if shard is not None:
        return m, attached, shard, place_of(attached, shard).shape
    return m._lock_table(), attached.locks, attached.locks.shards[0], attached.locks.geometry


def check_shard(m: MapHandle, attached: Attachment, one: Shard | None) -> list[str]:
    """List what is wrong in a shard of an open map. Raises ShardMoved."""
    core, host, shard, shape = _part(m, attached, one)
    length = shape.areas.end if shard.has_deadlines() else shape.areas.deadlines
    copied = copy_shard(core, shard, length)
    if length == shape.areas.deadlines:  # they may have been reserved since
        with ShardWords(copied) as header:
            header.HAS_DEADLINES = 0
    twin = Shard(
        copied, shard.number, shape.slots, shape.slot_size, shape.buckets, shape.evicts,
        shape.shards.bit_length() - 1, host.seed, shard.lock, host.clock,
    )
    problems: list[str] = Checker(twin).problems()
    return problems + [f"V1: slot {slot}: {why}" for slot, _, why in unreadable(copied, shape)]


def repair_shard(m: MapHandle, attached: Attachment, one: Shard | None) -> None:
    """Rebuild what is derived in a shard, and drop entries that cannot be read. Raises ShardMoved.
    """
    core, _, shard, shape = _part(m, attached, one)
    rebuild_shard(core, shard)
    copied = copy_shard(core, shard, shape.areas.deadlines)
    bad = [(slot, version) for slot, version, _ in unreadable(copied, shape)]
    if bad:
        end_entries(core, shard, bad)
