# mypy: ignore-errors
"""How many slots the entries of a map would take in shards of another shape: see `moving/fitting`.
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import i64, load_behind, new_probe, probe_t, u64
    from shmmap.shard._shard_cy import Shard
    from shmmap.shard._slots_cy import Slots, data_bytes, is_tombstone
    from shmmap.shard._status import AGAIN, CORRUPT, FOUND, MISS, READ_TRIES

from shmmap.memory.table import UNITS

COMPILED = cython.compiled


class NeedCount:
    """What entries would take in shards of another shape. Each is counted for the unit of the hash
    that it is in (see `table`), of which a shard is a row, however many shards there will be.

    `slot_size`, `max_bytes`: of a new shard. `longest`: the bytes of the longest entry, key and
    value; `too_large`: how many entries have more than `max_bytes`.
    """

    def __init__(self, slot_size, max_bytes):
        # only its `needed` is asked: the memory is of no slot
        self.slots = Slots(bytearray(8), 0, 0, 0, slot_size)
        self.max_bytes = max_bytes
        self.longest = 0
        self.too_large = 0
        if not cython.compiled:
            self.needs = [0] * UNITS
            self.left_out = [0] * UNITS
            self.entries = [0] * UNITS

    def count_slots(self, shard, first, last):
        """Count what begins in the slots `first` to `last`; no lock. Return 0, or CORRUPT."""
        found: probe_t = new_probe()
        slot: u64
        tries: u64
        status: i64
        for slot in range(first, last + 1):
            found.slot = slot
            tries = 0
            status = AGAIN
            while status == AGAIN:
                tries += 1
                status = self.count_slot(shard, found, tries >= READ_TRIES)
            if status == CORRUPT:
                return CORRUPT
        return 0

    def count_slot(self, shard, found, at_last):
        """Count what begins in the slot of `found`: FOUND, MISS, CORRUPT, or AGAIN: it changed
        meanwhile. `at_last`: then it is counted as it was seen, if it can have been so.

        An odd version is as good as an even one: what is changed in place is neither the key nor a
        length.
        """
        version: u64 = shard.slots.version(found.slot)
        unit: u64 = 0
        need: u64
        length: u64
        expired: cython.bint = False
        if version == 0:
            return MISS
        found.version = version
        found.meta = shard.slots.meta(found.slot)
        length = data_bytes(found.meta)
        if length <= shard.max_bytes:
            unit = shard.slot_hash(found.slot, found.meta) >> 52
            expired = shard.is_expired(found) and not is_tombstone(found.meta)
        if load_behind(shard.mem, shard.slots.at(found.slot)) != version:
            if not at_last:
                return AGAIN
            if length > shard.max_bytes:
                return MISS
        if length > shard.max_bytes:
            return CORRUPT
        if expired:
            return MISS
        need = self.slots.needed(length)
        if length > self.longest:
            self.longest = length
        if length > self.max_bytes:
            self.too_large += 1
            self.left_out[unit] += need
            return FOUND
        self.needs[unit] += need
        self.entries[unit] += 1
        return FOUND

    def by_unit(self) -> list[tuple[int, int, int]]:
        """List for each unit: the slots that its entries need, how many these are, and the slots of
        those that are too large."""
        unit: u64
        listed: list = []
        for unit in range(UNITS):
            listed.append((self.needs[unit], self.entries[unit], self.left_out[unit]))
        return listed


def count_needed(handle, shard: Any, count: Any, first: Any, limit: Any) -> int:
    """Count what the entries in `limit` slots of a shard, from `first` on, would take, but not
    those that have expired. No lock. Return the slot to go on from, 0: done. MapCorrupted: it is
    damaged."""
    one: Shard = shard
    counted: NeedCount = count
    last: u64
    used: u64
    handle.enter()
    try:
        used = one.slots.used()
        last = first + limit - 1
        if last > used:
            last = used
        if counted.count_slots(one, first, last) == CORRUPT:
            handle.raise_for(CORRUPT, one, 0)
        return last + 1 if last < used else 0
    finally:
        handle.leave()
