"""A forecast of whether a map's entries fit into another shape is what happens when they are really
put there, and what it says would do instead would do."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

import shmmap
from shmmap.errors import EntryTooLarge, MapClosed, MapCorrupted, MapFull, MapUnlinked
from shmmap.memory.geometry import Geometry, buckets_for
from shmmap.moving import fitting
from shmmap.moving.wish import SHAPE, Wish, plan_wish, read_wish
from shmmap.operations import _needs_cy
from shmmap.operations._restore_cy import write_raw
from shmmap.shard._status import READ_TRIES

from ...support.clocks import FrozenClock
from ...support.damage import Damage
from ...support.moves import Moving
from ...support.shard0 import PURE

NUMBER = re.compile(r"(size|capacity|shards)=(\d+)")


def wish_for(m: Any, **said: Any) -> Wish:
    return plan_wish(m.attachment, read_wish(m.attachment.parameters, said))


def drawn_key(draw: random.Random) -> Any:
    number = draw.randrange(10_000)
    return draw.choice([number, f"key {number}", b"%d" % number, (number, "k" * (number % 500))])


def drawn_value(draw: random.Random, typical: int) -> Any:
    length = draw.choice([0, typical, typical + 1, draw.randrange(4 * typical), 20 * typical])
    return draw.choice([7, 2.5, None, b"v" * length, b"v" * length, "t" * length])


def fill(m: Any, draw: random.Random, clock: FrozenClock, typical: int) -> None:
    """Fill a map in part, with holes, with entries of one slot and of many, and expired ones."""
    for _ in range(draw.randrange(400)):
        key, action = drawn_key(draw), draw.random()
        with suppress(MapFull, EntryTooLarge):
            if action < 0.1:
                m.delete(next(iter(m), key))
            elif action < 0.2:
                m.incr(("n", draw.randrange(10)))
            else:
                m.set(key, drawn_value(draw, typical), draw.choice([None, None, 3.0, 1000.0]))
    clock.advance(4.0)  # what had three seconds is over, and not swept


def drawn_said(draw: random.Random, used: int) -> dict[str, Any]:
    """Draw what to ask for: sizes about what is used, to both sides."""
    said: dict[str, Any] = {}
    if draw.random() < 0.6:
        said["shards"] = 1 << draw.randrange(6)
    if draw.random() < 0.4:
        said["value_size"] = draw.choice([0, 16, 100, 1_000, 9_000])
    if draw.random() < 0.2:
        said["key_size"] = draw.choice([0, 16, 200])
    if draw.random() < 0.6 or not said:
        said["size"] = 120_000 + int(used * draw.uniform(0.5, 6.0))
    elif draw.random() < 0.5:
        said["capacity"] = draw.randrange(1, 1_000)
    return said


class Outcome:
    """What came of putting each of a map's live entries into a map of the wished parameters."""

    def __init__(self, m: Any, other: Any, clock_ns: int) -> None:
        self.entries = self.full = self.too_large = 0
        other.attachment.clock.frozen_ns = clock_ns
        for kind, key, value_kind, value, deadline, _version in m.snapshot().raw_entries():
            self.entries += 1
            try:
                write_raw(other, kind, key, value_kind, value, deadline, 0)
            except MapFull:
                self.full += 1
            except EntryTooLarge:
                self.too_large += 1


def put_into_new(m: Any, name: str, wish: Wish) -> tuple[Outcome, int]:
    """Put a map's entries into a new one of the wished parameters; say what was evicted, too."""
    said: dict[str, Any] = {field: getattr(wish.parameters, field) for field in SHAPE}
    said["_seed"] = m.attachment.seed
    other = shmmap.ShmMap.create(f"{name}-new", sweep_interval=None, **said)
    try:
        assert other.attachment.geometry == wish.shape
        return Outcome(m, other, m.attachment.clock.now_ns()), other.stats().evicted
    finally:
        other.unlink()
        other.close()


def wishes(m: Any, draw: random.Random, times: int) -> Iterator[Wish]:
    used = m.stats().live_bytes
    for _ in range(times):
        with suppress(ValueError):  # no such layout
            yield wish_for(m, **drawn_said(draw, used))


@pytest.mark.parametrize("seed", range(12))
def test_what_fits_is_what_can_be_put_there(
    make: Any, name: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Both ways: what is refused could not be put there, and what is not, could."""
    draw = random.Random(seed)
    monkeypatch.setattr(fitting, "_PIECE", draw.choice([1, 7, 4096]))
    typical = draw.choice([8, 100, 700])
    m = make(size=draw.choice(["300kB", "500kB", "1MB"]), shards=1 << draw.randrange(4),
             value_size=typical)
    clock = FrozenClock(m)
    fill(m, draw, clock, typical)
    for wish in wishes(m, draw, 12):
        seen = fitting.foretell(m, wish)
        came, _ = put_into_new(m, name, wish)
        assert seen.entries == came.entries == len(m)
        assert seen.too_large == came.too_large
        assert (seen.fullest < seen.slots and not seen.too_large) == (
            not came.full and not came.too_large), (seed, wish)
        if came.full or came.too_large:
            with pytest.raises(EntryTooLarge if came.too_large else MapFull):
                fitting.refuse_what_cannot_fit(m, wish)
        else:
            assert fitting.refuse_what_cannot_fit(m, wish) == seen
            assert str(seen) == f"of {len(m):,} entries all will fit"


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("slot_size", [32, 136, 1_000])
def test_the_last_slot_decides(make: Any, seed: int, slot_size: int) -> None:
    """A shard with one slot more than its entries need takes them all; with as many, not: the
    mover's own steps say so."""
    draw = random.Random(seed)
    m = make(size="500kB", shards=1 << draw.randrange(3), value_size=100)
    FrozenClock(m)
    for _ in range(draw.randrange(1, 300)):
        m[drawn_key(draw)] = drawn_value(draw, 60)
    shards = 1 << draw.randrange(4)
    need = fitting.count_need(m, slot_size, 1 << 30)
    most = max(need.by_shard(shards))
    for slots in (most, most + 1):
        shape = Geometry(shards, slots, slot_size, buckets_for(slots), 0)
        moving = Moving(m, shape)
        moving.begin()
        assert (set(moving.carry()) == {0}) is need.fits(shape) is (slots > most)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_said_to_do_would_do(make: Any, name: str, seed: int) -> None:
    draw = random.Random(seed)
    m = make(size="1MB", shards=1 << draw.randrange(4), value_size=100)
    fill(m, draw, FrozenClock(m), 100)
    m["long"] = b"l" * 8_000
    refused = 0
    while refused < 12:
        said = drawn_said(draw, 20_000)
        try:
            wish = wish_for(m, **said)
        except ValueError:
            continue
        try:
            fitting.refuse_what_cannot_fit(m, wish)
            continue
        except (MapFull, EntryTooLarge) as error:
            refused += 1
            text = str(error)
        advice = text.partition("Nothing was moved. ")[2].partition(" would do")[0]
        assert advice
        for way in advice.split(", or "):
            if way.startswith("value_size="):
                better = {**said, "value_size": 100, "key_size": None}
            else:
                numbers = {field: int(number) for field, number in NUMBER.findall(way)}
                if "size" in numbers:
                    said.pop("capacity", None)
                better = {**said, **numbers}
            assert fitting.refuse_what_cannot_fit(m, wish_for(m, **better))
            least = next((f for f in ("size", "capacity") if way.startswith(f"{f}=")), None)
            if least:  # about the least that would do
                better[least] = int(better[least] * 0.97)
                with suppress(ValueError), pytest.raises((MapFull, EntryTooLarge)):
                    fitting.refuse_what_cannot_fit(m, wish_for(m, **better))


def test_texts_name_what_is_wrong_and_what_would_do(make: Any, name: str) -> None:
    m = make(size="1MB", shards=4)
    for number in range(3_000):
        m[number] = b"v" * 90
    with pytest.raises(MapFull, match=(
        rf"^map '{name}' cannot be resized so: its 3,000 entries do not fit into 4 shards of "
        r"[\d,]+ slots of 136 bytes\. The fullest would need [\d,]+, and one in reserve\. Nothing "
        r"was moved\. size=[1-9]\d{3}0+ would do, for what it holds now\. Or remove entries first, "
        r'or let it evict some: on_full="evict"$'
    )):
        fitting.refuse_what_cannot_fit(m, wish_for(m, size="400kB"))
    m["long"] = b"l" * 20_000
    with pytest.raises(EntryTooLarge, match=(
        rf"^map '{name}' cannot be resized so: it has an entry of 20,004 bytes \(key and value\), "
        r"and each of 64 shards of [\d,]+ slots of 136 bytes would hold entries of at most [\d,]+"
        r"\. Nothing was moved\. size=\d+, or shards=\d+ at this size would do, for what it holds "
        r"now$"
    )):
        fitting.refuse_what_cannot_fit(m, wish_for(m, shards=64))
    m["longer"] = b"l" * 20_001
    with pytest.raises(EntryTooLarge, match=r"it has 2 entries that are too large, the longest of "
                                            r"20,007 bytes \(key and value\)"):
        fitting.refuse_what_cannot_fit(m, wish_for(m, shards=64))


def test_slots_of_another_length_are_what_is_wrong(make: Any) -> None:
    """Where slots as they are now would do at this size, the text says so."""
    m = make(size="1MB", shards=1, value_size=100)
    for number in range(500):
        m[number] = b"v" * 90
    with pytest.raises(MapFull, match=r"size=\d+, or value_size= and key_size= as they are now "
                                      r"would do"):
        fitting.refuse_what_cannot_fit(m, wish_for(m, value_size=8_000))


@pytest.mark.parametrize("seed", range(6))
def test_what_evicts_refuses_nothing_and_says_what_is_lost(
    make: Any, name: str, seed: int
) -> None:
    draw = random.Random(seed)
    m = make(size="1MB", shards=2, value_size=100, on_full=draw.choice(["raise", "evict"]))
    fill(m, draw, FrozenClock(m), 100)
    m["long"] = b"l" * 8_000
    for wish in wishes(m, draw, 12):
        if not wish.shape.evicts:
            wish = wish_for(m, on_full="evict", size=draw.randrange(160_000, 300_000), shards=2)
        seen = fitting.refuse_what_cannot_fit(m, wish)
        came, evicted = put_into_new(m, name, wish)
        assert came.full == 0
        assert seen.too_large == came.too_large
        assert bool(seen.evicted) == bool(evicted)
        assert seen.entries == came.entries
        text = str(seen)
        assert ("will be dropped" in text) == bool(seen.too_large)
        assert ("will be evicted" in text) == bool(seen.evicted)


@pytest.mark.parametrize(("entries", "length"), [(3_000, 90), (300, 1_300)])
def test_how_many_are_evicted(make: Any, name: str, entries: int, length: int) -> None:
    """Of entries of the same length, as many as said."""
    m = make(size="1MB", shards=4)
    for number in range(entries):
        m[number] = b"v" * length
    wish = wish_for(m, size="400kB", on_full="evict")
    seen = fitting.foretell(m, wish)
    came, evicted = put_into_new(m, name, wish)
    assert seen.evicted == evicted > 100 and came.full == 0
    assert str(seen) == (
        f"of {entries:,} entries about {evicted:,} will be evicted for want of slots")


def test_an_entry_as_large_as_can_be(make: Any, name: str) -> None:
    m = make(size="1MB", shards=1)
    wish = wish_for(m, size="400kB")
    most = wish.shape.max_entry_bytes
    m[b"key"] = b"v" * (most - 3)
    seen = fitting.refuse_what_cannot_fit(m, wish)
    assert (seen.longest, seen.too_large) == (most, 0)
    came, _ = put_into_new(m, name, wish)
    assert (came.full, came.too_large) == (0, 0)
    m[b"key"] = b"v" * (most - 2)
    text = rf"an entry of {most + 1:,} bytes .* at most {most:,}\."
    with pytest.raises(EntryTooLarge, match=text):
        fitting.refuse_what_cannot_fit(m, wish)
    assert put_into_new(m, name, wish)[0].too_large == 1


def test_entries_that_are_too_large_evict_none(make: Any, name: str) -> None:
    m = make(size="2MB", shards=1)
    for number in range(200):
        m[number] = b"v" * 90
    m["large"] = b"l" * 600_000
    wish = wish_for(m, size="400kB", on_full="evict")
    seen = fitting.foretell(m, wish)
    assert seen.evicted == 0 == put_into_new(m, name, wish)[1]
    assert str(seen) == (
        "of 201 entries 1 will be dropped, being larger than a shard can hold (the longest has "
        "600,005 bytes)")


def test_an_empty_map_fits_everywhere(make: Any) -> None:
    m = make(size="1MB", shards=16)
    seen = fitting.refuse_what_cannot_fit(m, wish_for(m, shards=1, size="300kB"))
    assert (seen.entries, seen.fullest, seen.longest) == (0, 0, 0)


def test_a_shard_that_has_several_routes_counts_once(make: Any) -> None:
    """While a map is moved, one shard may stand for several parts of the hash."""
    m = make(size="1MB", shards=2)
    for number in range(100):
        m[number] = number
    wish = wish_for(m, shards=4)
    shards = m.attachment.shards
    seen = fitting.foretell(m, wish)
    shards[:] = [shard for shard in shards for _ in range(2)]
    try:
        assert fitting.foretell(m, wish) == seen and seen.entries == 100
    finally:
        shards[:] = shards[::2]


def test_beside_writers(make: Any) -> None:
    """What stays is counted, whatever happens around it."""
    m = make(size="2MB", shards=2)
    for number in range(1_000):
        m[number] = b"v" * 90
    stop = threading.Event()

    def write(mine: int) -> None:
        draw = random.Random(mine)
        while not stop.is_set():
            m.incr(("count", mine, draw.randrange(5)))
            m["passing", mine] = b"p" * draw.choice((1, 300, 2_000))
            m.delete(("passing", mine))

    writers = [threading.Thread(target=write, args=(mine,)) for mine in range(2)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(10):
            seen = fitting.foretell(m, wish_for(m, shards=8))
            assert 1_000 <= seen.entries <= 1_000 + 10 + 4  # an overwrite may be there twice
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert fitting.foretell(m, wish_for(m, shards=8)).entries == len(m)


@pytest.mark.skipif(not PURE, reason="the compiled engine's loads cannot be stepped into")
@pytest.mark.parametrize("changes", [1, READ_TRIES - 1, READ_TRIES, 1000])
def test_what_changes_meanwhile_is_looked_at_again(
    make: Any, monkeypatch: pytest.MonkeyPatch, changes: int
) -> None:
    """A version that is another each time is looked at again, and counted at last as it was."""
    m = make(size="1MB", shards=1)
    m["a"], m["b"] = 1, 2
    seen = 0
    module: Any = _needs_cy
    load = module.load_behind

    def changed(mem: Any, at: int) -> int:
        nonlocal seen
        seen += 1
        return int(load(mem, at)) + 2 * (seen <= changes)

    monkeypatch.setattr(module, "load_behind", changed)
    assert fitting.foretell(m, wish_for(m, shards=2)).entries == 2
    assert seen == 2 + changes if changes < READ_TRIES else seen > READ_TRIES


def test_what_is_changed_in_place_counts(make: Any) -> None:
    """A stopped writer leaves an odd version for long: nobody waits for it."""
    m = make(size="1MB", shards=1)
    m["a"] = 1
    damage = Damage(m)
    (slot,) = damage.live()
    damage.words[damage.slot_word(slot)] |= 1
    try:
        assert fitting.foretell(m, wish_for(m, shards=2)).entries == 1
    finally:
        damage.words[damage.slot_word(slot)] &= ~1


def test_damage_is_told_before_anything_moves(make: Any) -> None:
    m = make(size="1MB", shards=1)
    m["a"] = 1
    damage = Damage(m)
    (slot,) = damage.live()
    damage.words[damage.slot_word(slot, 8)] |= 0xFFFF << 40  # a value of some GB
    with pytest.raises(MapCorrupted, match=r"m\.check\(\) lists what"):
        fitting.foretell(m, wish_for(m, shards=2))


def test_a_map_that_goes_meanwhile(make: Any) -> None:
    m = make(size="1MB", shards=1)
    second = make()
    wish = wish_for(m, shards=2)
    second.close()
    with pytest.raises(MapClosed):
        fitting.foretell(second, wish)
    m.unlink()
    with pytest.raises((MapUnlinked, MapClosed)):
        fitting.foretell(m, wish)
