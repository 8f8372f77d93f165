"""A full map: what still works, what fails and changes nothing, what is evicted first."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

import shmmap


def fill(m: Any, make_value: Any = lambda i: f"v{i}") -> int:
    """Write entries of one slot until the map raises MapFull; return how many fitted."""
    for number in range(1_000_000):
        try:
            m[number] = make_value(number)
        except shmmap.MapFull:
            return number
    raise AssertionError("it never was full")


@pytest.fixture(params=[1, 8], ids=["1 shard", "8 shards"])
def full(request: Any, make: Any) -> Any:
    """A map whose every shard is full of one-slot entries, and the model of what is in it."""
    m = make(size=f"{150 + 50 * request.param}KB", shards=request.param)
    fill(m)
    missed = 0
    for number in range(1_000_000, 1_100_000):
        try:
            m[number] = "more"
        except shmmap.MapFull:
            missed += 1
            if missed == 200:  # in a row: every shard is full
                break
        else:
            missed = 0
    return m


def test_a_write_that_fails_changes_nothing(full):
    before, version = dict(full), full.get_versioned(0)[1]
    free = full.stats().free_slots
    assert free == full.attachment.geometry.shards, "one slot a shard is in reserve"
    for use in (
        lambda i: full.__setitem__(i, 1), lambda i: full.set(i, 1, ttl=5), lambda i: full.add(i, 1),
        lambda i: full.setdefault(i, 1), lambda i: full.incr(i), lambda i: full.cas(i, 1, 0),
        lambda i: full.set_many({i: 1}), lambda i: full.set(0, bytes(3000)),
    ):  # fmt: skip
        for number in range(-50, 0):
            with pytest.raises(shmmap.MapFull, match="nothing was changed"):
                use(number)
    assert full.replace(-1, 1) is False
    assert dict(full) == before
    assert full.get_versioned(0)[1] == version
    assert full.stats().free_slots == free
    assert full.check() == []


def test_an_overwrite_of_one_slot_never_fails(full):
    model = dict(full)
    for key in model:
        full[key] = model[key] = f"new {key}"
        assert full.replace(key, model[key], ttl=1000) is True
        assert full.cas(key, model[key], full.get_versioned(key)[1]) is True
        assert full.touch(key, 500) is True
    assert dict(full) == model
    assert full.check() == []


def test_incr_of_a_counter_never_fails(full):
    model = dict(full)
    for key in model:
        full[key] = 10
        for delta in (1, -5):
            full.incr(key, delta)
    assert set(full.values()) == {6}
    assert full.check() == []


def test_a_delete_makes_room_for_one(full):
    for key in list(full)[:50]:
        del full[key]
        full[key] = "again"
    assert full.check() == []


def test_a_longer_value_that_does_not_fit_leaves_the_old_one(full):
    with pytest.raises(shmmap.MapFull):
        full[0] = bytes(600)
    assert full[0] == "v0"
    assert full.check() == []


def test_expired_entries_make_room(make, freeze):
    m = make(size="200KB", shards=1)
    clock = freeze(m)
    fitted = fill(m)
    for number in range(0, fitted, 2):
        m.touch(number, 10)
    with pytest.raises(shmmap.MapFull):
        m["new"] = 1
    clock.advance(10)
    for number in range((fitted + 1) // 2):
        m["new", number] = number
    with pytest.raises(shmmap.MapFull):
        m["one too many"] = 1
    assert all(number in m for number in range(1, fitted, 2))
    assert m.check() == []


@pytest.mark.parametrize("on_full", ["raise", "evict"])
@pytest.mark.parametrize("shards", [16, None])
@pytest.mark.parametrize(
    ("capacity", "value_size"), [(1, 8), (50, 100), (1000, 0), (1000, 100), (300, 9000)]
)
def test_capacity_holds_what_it_says(make, capacity, value_size, shards, on_full):
    m = make(capacity=capacity, value_size=value_size, shards=shards, on_full=on_full)
    for number in range(capacity):
        m[f"{number:016}"] = bytes(value_size)
    assert len(m) == capacity
    assert m.stats().evicted == 0


class TestEvicting:
    def test_set_never_fails(self, make, freeze):
        m = make(size="200KB", shards=1, on_full="evict")
        freeze(m)
        draw = random.Random(7)
        most = m.attachment.geometry.max_entry_bytes - 8
        for number in range(1200):
            length = draw.choice((0, 10, 100, 500, 5000)) if number % 200 else most
            m.set(number, bytes(length), ttl=draw.choice((None, 100)))
            assert m.get(number) is not None
            key = draw.randrange(number + 1)
            m[key] = bytes(draw.choice((0, 2000, most)) if number % 100 == 50 else 50)
            assert key in m
        assert m.stats().evicted > 500
        assert m.check() == []

    def test_what_expired_goes_before_what_lives(self, make, freeze):
        m = make(size="200KB", shards=1, on_full="evict")
        clock = freeze(m)
        slots = m.attachment.geometry.slots
        for number in range(slots - 1):
            m.set(number, number, ttl=10 if number % 3 == 0 else 1000)
        for number in range(0, slots - 1, 3):
            m.get(number)  # asked for: no candidates of the policy's own
        assert m.stats().evicted == 0
        clock.advance(10)
        for number in range(0, slots - 1, 3):
            m["new", number] = number
        assert m.stats().evicted == 0
        assert all(number in m for number in range(slots - 1) if number % 3)
        m["one more"] = 1
        assert m.stats().evicted == 1
        assert m.check() == []

    def test_the_key_that_is_written_is_not_the_victim(self, make):
        m = make(size="200KB", shards=1, on_full="evict")
        for number in range(m.attachment.geometry.slots * 2):
            m["mine"] = number
            m[number] = number
            m["mine"] = bytes(number % 900)
            assert m["mine"] == bytes(number % 900)
        assert m.check() == []




class TestNeverEvicting:
    """`evict=False` in a map that evicts."""

    WRITES = (
        lambda m, key: m.set(key, 1, evict=False),
        lambda m, key: m.set(key, 1, ttl=5, evict=False),
        lambda m, key: m.add(key, 1, evict=False),
        lambda m, key: m.cas(key, 1, 0, evict=False),
        lambda m, key: m.setdefault(key, 1, evict=False),
        lambda m, key: m.incr(key, evict=False),
        lambda m, key: m.set_many({key: 1}, evict=False),
        lambda m, key: m.set_many([(key, 1)], None, evict=False),
    )

    @pytest.fixture
    def held(self, make: Any) -> Any:
        m = make(size="200KB", shards=1, on_full="evict")
        for number in range(m.attachment.geometry.slots - 1):
            m.set(number, number, evict=False)
        return m

    @pytest.mark.parametrize("write", range(len(WRITES)))
    def test_a_new_key_finds_no_room_and_drives_nobody_out(self, held, write):
        before, free = dict(held), held.stats().free_slots
        assert free == 1
        with pytest.raises(shmmap.MapFull, match=r"nothing was changed.*evict=False"):
            self.WRITES[write](held, "new")
        assert dict(held) == before
        assert (held.stats().evicted, held.stats().free_slots) == (0, free)
        assert held.check() == []
        del held[0]
        self.WRITES[write](held, "new")
        assert held["new"] == 1 and held.stats().evicted == 0

    def test_a_longer_value_finds_no_room(self, held):
        for write in (held.set, held.replace):
            with pytest.raises(shmmap.MapFull):
                write(0, bytes(600), evict=False)
            with pytest.raises(shmmap.MapFull):
                held.cas(0, bytes(600), held.get_versioned(0)[1], evict=False)
        assert held[0] == 0 and held.stats().evicted == 0
        held.set(0, bytes(600))
        assert held[0] == bytes(600) and held.stats().evicted > 0
        assert held.check() == []

    def test_overwriting_works(self, held):
        held.set(0, 10, evict=False)
        assert held.replace(0, 20, evict=False)
        assert not held.add(0, 30, evict=False)
        assert held.incr(0, evict=False) == 21
        assert held.setdefault(0, 5, evict=False) == 21
        assert held.stats().evicted == 0

    def test_what_expired_makes_room(self, make, freeze):
        m = make(size="200KB", shards=1, on_full="evict")
        clock = freeze(m)
        slots = m.attachment.geometry.slots
        for number in range(slots - 1):
            m.set(number, number, ttl=10 if number % 2 else None, evict=False)
        clock.advance(10)
        for number in range((slots - 1) // 2):
            m.set(("new", number), 1, evict=False)
        with pytest.raises(shmmap.MapFull):
            m.set("one more", 1, evict=False)
        assert (m.stats().evicted, m.stats().expired) == (0, (slots - 1) // 2)
        assert m.check() == []

    def test_in_a_map_that_never_evicts_it_changes_nothing(self, make):
        m = make(size="200KB", shards=1)
        for number in range(m.attachment.geometry.slots - 1):
            m.set(number, number, evict=bool(number % 2))
        for evict in (True, False):
            with pytest.raises(shmmap.MapFull, match='on_full="evict"'):
                m.set("new", 1, evict=evict)

    def test_no_code_of_anyones_runs_under_the_lock(self, held):
        class Answer:
            def __bool__(self) -> bool:
                held[0] = 1  # would find its own lock
                return False

        with pytest.raises(shmmap.MapFull):
            held.set("new", 1, evict=Answer())
        with pytest.raises(shmmap.MapFull):
            held.incr("new", evict=Answer())
        assert held[0] == 1


def shape(parameters: dict[str, Any]) -> dict[str, Any]:
    return {"sweep_interval": None, **parameters}


@pytest.mark.parametrize(
    "parameters",
    [
        {"size": "1MB"},
        {"size": "1MB", "shards": 1},
        {"size": "2MB", "shards": 64},
        {"size": "2MB", "shards": 64, "on_full": "evict"},
        {"size": "1MB", "value_size": 4},
        {"size": "3MB", "value_size": 5000, "shards": 16},
        {"capacity": 1000},
        {"capacity": 1000, "shards": 64},
        {"capacity": 2000, "shards": 16, "value_size": 1000},
    ],
    ids=str,
)
@pytest.mark.parametrize("factor", [1.0, 2, 16, 70])
def test_entry_too_large_names_what_does_hold_it(name, parameters, factor):
    with shmmap.ShmMap(name, **shape(parameters)) as m:
        most = m.attachment.geometry.max_entry_bytes
        value = bytes(round(most * factor))
        with pytest.raises(shmmap.EntryTooLarge) as caught:
            m["k"] = value
        assert len(m) == 0
        m.unlink()
    said = str(caught.value)
    assert f"{most:,}" in said and f"{len(value) + 1:,}" in said
    size = re.search(r"size=([\d,]+\d)", said)
    shards = re.search(r"shards=(\d+)", said)
    assert size or shards, said
    advised = dict(parameters)
    if size:
        advised.pop("capacity", None)
        advised["size"] = int(size[1].replace(",", ""))
    if shards:
        advised["shards"] = int(shards[1])
    with shmmap.ShmMap(name, **shape(advised)) as m:
        m["k"] = value
        assert len(m["k"]) == len(value)
        m.unlink()
