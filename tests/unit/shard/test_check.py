"""check() names the invariant that damage breaks; repair() brings all whole entries back.

Each damage below gives the keys of the entries that it makes unreadable: repair() may drop those.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.memory.layout import constants

from ...support.damage import Damage

K = constants()
FLAG = K["HAS_DEADLINE"] << K["META_KEY_TYPE_SHIFT"]
LONG = b"long-1"  # an entry of several slots
OTHER = b"long-2"


def entries() -> dict[bytes, Any]:
    plain = {b"key-%d" % i: b"value %d" % i for i in range(300)}
    return {**plain, LONG: bytes(range(200)) * 4, OTHER: b"x" * 900, b"n": 5}


# -- the damages -----------------------------------------------------------------------


def index_word_cleared(d: Damage) -> set[bytes]:
    d.words[d.index_word(d.head(b"key-1"))] &= K["OVERFLOW_MASK"]
    return set()


def index_word_with_another_tag(d: Damage) -> set[bytes]:
    d.words[d.index_word(d.head(b"key-1"))] ^= 1 << 40
    return set()


def index_word_of_a_free_slot(d: Damage) -> set[bytes]:
    d.words[d.index_word(0)] |= (7 << 32) | d.free()
    return set()


def index_word_of_no_slot(d: Damage) -> set[bytes]:
    d.words[d.index_word(0)] |= (7 << 32) | (d.shape.slots + 1)
    return set()


def two_index_words_of_one_entry(d: Damage) -> set[bytes]:
    word = d.words[d.index_word(d.head(b"key-1"))] & K["WORD_MASK"]
    d.words[d.index_word(0)] |= word
    return set()


def overflow_count_too_high(d: Damage) -> set[bytes]:
    d.words[d.index_words()[0]] += 3 << K["OVERFLOW_SHIFT"]
    return set()


def impossible_value_type(d: Damage) -> set[bytes]:
    d.words[d.slot_word(d.head(b"key-1"), 8)] |= 0xFF << K["META_VALUE_TYPE_SHIFT"]
    return {b"key-1"}


def impossible_length(d: Damage) -> set[bytes]:
    d.words[d.slot_word(d.head(b"key-1"), 8)] |= 0xFFFF << 48
    return {b"key-1"}


def chain_longer_than_its_value(d: Damage) -> set[bytes]:
    slot = d.head(LONG)
    while d.next_of(slot):
        slot = d.next_of(slot)
    d.tie(slot, d.free())
    return set()


def chain_cut(d: Damage) -> set[bytes]:
    d.tie(d.head(LONG), 0)
    return {LONG}


def slot_not_in_use(d: Damage) -> set[bytes]:
    d.halves[d.next_half(d.head(b"key-1"))] = 0
    return {b"key-1"}


def free_slot_in_use(d: Damage) -> set[bytes]:
    d.tie(d.free(), 0)
    return set()


def chain_in_a_loop(d: Damage) -> set[bytes]:
    d.tie(d.head(LONG), d.head(LONG))
    return {LONG}


def chains_crossed(d: Damage) -> set[bytes]:
    d.tie(d.head(LONG), d.next_of(d.head(OTHER)))
    return {LONG, OTHER}  # one of them is whole, but nothing tells which


def live_slot_on_the_free_list(d: Damage) -> set[bytes]:
    d.set_header("FREE_HEAD", d.head(b"key-1"))
    return set()


def free_count_too_high(d: Damage) -> set[bytes]:
    d.set_header("FREE_SLOTS", d.header("FREE_SLOTS") + 1)
    return set()


def free_list_lost(d: Damage) -> set[bytes]:
    d.set_header("FRESH", d.shape.slots + 1)
    return set()


def deadline_of_a_free_slot(d: Damage) -> set[bytes]:
    d.halves[d.deadline_half(d.free())] = 1 << 31
    return set()


def deadline_of_an_entry_without_one(d: Damage) -> set[bytes]:
    d.halves[d.deadline_half(d.head(b"key-1"))] = 1 << 31
    return set()


def earliest_too_late(d: Damage) -> set[bytes]:
    d.set_header("EARLIEST_NS", d.header("EARLIEST_NS") + 1)
    return set()


def earliest_lost(d: Damage) -> set[bytes]:
    d.set_header("EARLIEST_NS", 0)
    return set()


def base_lost(d: Damage) -> set[bytes]:
    d.set_header("DEADLINE_BASE", 0)
    return set()


def base_of_another_time(d: Damage) -> set[bytes]:
    d.set_header("DEADLINE_BASE", d.header("DEADLINE_BASE") + 1)
    return set()


def changing_in_place(d: Damage) -> set[bytes]:
    d.words[d.slot_word(d.head(b"n"))] |= 1
    return set()


def stamp_lost(d: Damage) -> set[bytes]:
    d.set_header("STAMP", 0)
    return set()


def version_of_no_time(d: Damage) -> set[bytes]:
    d.words[d.slot_word(d.head(b"key-1"))] = (1 << 64) - 2  # the next version would be 0
    return {b"key-1"}


def key_twice(d: Damage) -> set[bytes]:
    old, new = d.slot_word(d.head(b"key-1")), d.slot_word(d.free())
    size = d.shape.slot_size >> 3
    d.words[new : new + size] = d.words[old : old + size]
    d.words[new] = 2  # older than any: the newer one is the entry
    d.tie(d.free(), 0)
    return set()


def entries_miscounted(d: Damage) -> set[bytes]:
    d.set_header("ENTRIES", d.header("ENTRIES") - 1)
    return set()


def bytes_miscounted(d: Damage) -> set[bytes]:
    d.set_header("LIVE_BYTES", d.header("LIVE_BYTES") + 1)
    return set()


def sequence_odd(d: Damage) -> set[bytes]:
    d.set_header("SEQUENCE", d.header("SEQUENCE") + 1)
    return set()


DAMAGES: list[tuple[str, Callable[[Damage], set[bytes]]]] = [
    ("I1", index_word_cleared), ("I1", index_word_with_another_tag),
    ("I1", index_word_of_a_free_slot), ("I1", index_word_of_no_slot),
    ("I1", two_index_words_of_one_entry), ("I2", overflow_count_too_high),
    ("L1", impossible_value_type), ("L1", impossible_length), ("L1", chain_longer_than_its_value),
    ("L2", chain_cut), ("L2", chain_in_a_loop), ("L2", chains_crossed),
    ("L2", live_slot_on_the_free_list), ("L3", free_count_too_high), ("L3", free_list_lost),
    ("L2", slot_not_in_use), ("L4", free_slot_in_use),
    ("X1", deadline_of_a_free_slot), ("X1", deadline_of_an_entry_without_one),
    ("X2", earliest_too_late), ("X2", earliest_lost),
    ("X3", base_lost), ("X3", base_of_another_time),
    ("S1", changing_in_place), ("S2", stamp_lost), ("S2", version_of_no_time),
    ("S3", key_twice),
    ("S4", entries_miscounted), ("S4", bytes_miscounted), ("S5", sequence_odd),
]  # fmt: skip


@pytest.fixture(params=["raise", "evict"])
def m(request: Any, make: Any) -> Any:
    """A map of one shard with short and long entries, deadlines, and a used free list."""
    opened = make(size="300KB", shards=1, on_full=request.param)
    opened.set_many(entries())
    for i in range(100, 200):
        opened.touch(b"key-%d" % i, 1000 + i)
    for i in range(50):
        opened[b"gone", i] = bytes(400)
    for i in range(50):
        del opened[b"gone", i]
    assert opened.check() == []
    return opened


@pytest.mark.parametrize(("invariant", "damage"), DAMAGES, ids=lambda x: getattr(x, "__name__", x))
def test_damage_is_named_and_repaired(m, invariant, damage):
    wanted = entries()
    lost = damage(Damage(m))
    problems = m.check()
    assert any(f"shard 0: {invariant}: " in problem for problem in problems), problems
    m.repair()
    assert m.check() == []
    left = dict(m.items())
    assert left.keys() <= wanted.keys()
    assert {key for key in wanted if left.get(key) != wanted[key]} <= lost
    assert m.ttl(b"key-100") == pytest.approx(1100, abs=60)
    m.update(wanted)
    assert m == wanted
    m.clear()
    assert m.check() == []


def test_every_invariant_of_the_shard_is_tested():
    """Each number that a module promises has a damage here; E1 and E2 are below."""
    package = Path(shmmap.__file__).parent
    promised: set[str] = set()
    for module in ("_index_cy", "_slots_cy", "_expiry_cy", "_shard_cy"):
        text = (package / "shard" / f"{module}.py").read_text()
        promised |= set(re.findall(r"^ ([A-Z]\d)  ", text, re.M))
    assert promised == {number for number, _ in DAMAGES}


@pytest.mark.parametrize("damage", ["E1", "E2"])
def test_damage_to_the_eviction_state(make, damage):
    m = make(size="250KB", shards=1, on_full="evict")
    wanted = {i: i for i in range(50)}
    m.update(wanted)
    d = Damage(m)
    if damage == "E1":  # the same slot twice in the ring
        ring = d.octets[d.areas.ring : d.areas.state].cast("H")
        start = d.header("RING_START")
        assert d.header("RING_COUNT") > 1
        ring[start + 1] = ring[start]
    else:
        d.set_header("RING_COUNT", d.shape.slots + 1)
    assert any(f": {damage}: " in problem for problem in m.check())
    m.repair()
    assert m.check() == []
    assert m == wanted


def test_repairing_again_and_again_loses_nothing(m):
    wanted = entries()
    for number in range(1, 4):
        m.repair()
        assert m.check() == []
        assert m == wanted
        assert m.stats().repairs == number


def test_a_broken_off_change_is_repaired_by_the_next_lock_holder(m):
    wanted = entries()
    for number in range(1, 4):
        damage = Damage(m)
        damage.set_header("DIRTY", 1)
        damage.set_header("SEQUENCE", damage.header("SEQUENCE") + 1)
        damage.set_header("ENTRIES", 0)
        m[b"n"] = 5
        assert m.check() == []
        assert m == wanted
        assert m.stats().repairs == number


def test_of_two_versions_of_a_key_the_newer_one_stays(m):
    d = Damage(m)
    old, new = d.slot_word(d.head(b"key-1")), d.slot_word(d.free())
    size = d.shape.slot_size >> 3
    d.words[new : new + size] = d.words[old : old + size]
    d.words[new] = d.header("STAMP") + 2
    d.tie(d.free(), 0)
    value_at = new * 8 + 16 + len(b"key-1")
    d.octets[value_at : value_at + 5] = b"VALUE"
    m.repair()
    assert m[b"key-1"] == b"VALUE 1"
    assert len(m) == len(entries())
    assert m.check() == []


def test_damage_never_crashes_a_reader_or_a_writer(m):
    """Whatever is written over the index: an answer or MapCorrupted, then a repair."""
    d = Damage(m)
    for at in d.index_words():
        d.words[at] = 0xFFFF_FFFF_FFFF_FFFF
    for use in (
        lambda: m.get(b"key-1"), lambda: len(m), lambda: list(m), lambda: dict(m.items()),
        lambda: m.delete(b"key-2"), lambda: m.set(b"new", 1), lambda: m.incr(b"n"),
    ):  # fmt: skip
        with contextlib.suppress(shmmap.MapCorrupted):
            use()
    m.repair()
    assert m.check() == []
    left = dict(m)
    assert left.pop(b"new") == 1
    assert left.pop(b"n") in (5, 6)
    wanted = entries()
    assert all(left[key] == wanted[key] for key in wanted.keys() - {b"key-2", b"n"})
