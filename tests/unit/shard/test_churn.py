"""What churn leaves: as many entries fit as before, in the same memory, and stats() say so.

Slots never move and are all alike, an entry takes any that are free, wherever they are: there is
nothing that could come in pieces.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

import shmmap

LONG = (0, 1, 90, 200, 1000, 5000)  # one slot and many


def fill(m: Any, mark: str) -> int:
    """Write entries of one slot until one does not fit; return how many did."""
    for number in range(100_000):
        try:
            m.set(f"{mark}{number:08}", bytes(100), evict=False)
        except shmmap.MapFull:
            return number
    raise AssertionError("it never was full")


def churn(m: Any, clock: Any, operations: int, seed: int) -> None:
    """Overwrite with all sizes, delete, let expire."""
    draw = random.Random(seed)
    for _ in range(operations):
        key, action = draw.randrange(300), draw.random()
        if action < 0.2:
            m.delete(key)
            continue
        ttl = 0.5 if action < 0.4 else None
        try:
            m.set(key, bytes(draw.choice(LONG)), ttl=ttl)
        except shmmap.MapFull:
            m.delete(draw.randrange(300))
        clock.advance(0.01)


def live_bytes(m: Any) -> int:
    """Add up what iteration gives."""
    return sum(len(shmmap_key(key)) + len(value) for key, value in m.items())


def shmmap_key(key: Any) -> bytes:
    """Return a key's bytes as the map has them: text as UTF-8."""
    assert isinstance(key, str)
    return key.encode()


@pytest.mark.parametrize("on_full", ["raise", "evict"])
def test_capacity_and_amplification_are_what_they_were(make, freeze, on_full):
    m = make(size="200KB", shards=1, on_full=on_full, sweep_interval=None)
    clock = freeze(m)
    m.set("deadlines' pages", b"", ttl=1)  # from the start, for a fair comparison
    clock.advance(2)
    m.sweep()
    fitted = fill(m, "a")
    before = m.stats()
    assert before.amplification == before.allocated_bytes / live_bytes(m)
    m.delete_many(list(m)[::2])
    churn(m, clock, 10 * fitted, seed=1)
    m.delete_many(list(m))
    clock.advance(2)
    m.sweep()
    empty = m.stats()
    assert (len(m), empty.free_slots, empty.live_bytes) == (0, before.slots, 0)
    assert fill(m, "b") == fitted
    after = m.stats()
    assert after.amplification == before.amplification
    assert after.allocated_bytes == before.allocated_bytes
    assert after.amplification == after.allocated_bytes / live_bytes(m)
    assert m.check() == []


def test_a_long_entry_fits_whatever_slots_are_free(make, freeze):
    m = make(size="200KB", shards=1, sweep_interval=None)
    fitted = fill(m, "a")
    for number in range(0, fitted, 2):  # every other slot: no two free ones lie side by side
        del m[f"a{number:08}"]
    shape = m.attachment.geometry
    free = m.stats().free_slots
    m["long"] = bytes((free - 1) * (shape.slot_size - 8) - 8 - len("long"))
    assert m.stats().free_slots == 1
    assert m.check() == []


def test_evicted_counts_live_entries_only(make, freeze):
    m = make(size="200KB", shards=1, on_full="evict", sweep_interval=None)
    clock = freeze(m)
    for number in range(m.attachment.geometry.slots - 1):
        m.set(number, number, ttl=10 if number < 50 else None)
    clock.advance(10)
    for number in range(60):  # fifty take the room of what expired, ten evict
        m["new", number] = number
    assert (m.stats().expired, m.stats().evicted) == (50, 10)
