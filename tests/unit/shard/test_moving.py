"""A shard's entries are carried into others while it is written: what is there at last is what it
had, entry by entry, with versions and deadlines, in shards that are whole."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from shmmap.memory import geometry
from shmmap.shard import _status as status

from ...support.clocks import FrozenClock
from ...support.moves import Moving

VALUES = (b"", b"x" * 50, b"y" * 700, b"z" * 3_000, 7, 2.5, None, True, "text", ["a", 1])


def shaped(size: int, shards: int, value_size: int, evicts: bool = False) -> geometry.Geometry:
    return geometry.plan_size(size, shards, value_size, 16, evicts)


def drawn_key(draw: random.Random) -> Any:
    number = draw.randrange(150)
    return draw.choice([number, f"key {number}", (number, "k" * (number * 3))])


def some(m: Any, draw: random.Random, operations: int) -> None:
    """Do operations of every kind that changes a shard."""
    for _ in range(operations):
        key, action = drawn_key(draw), draw.random()
        if action < 0.2:
            m.delete(key)
        elif action < 0.3:
            m.touch(key, draw.choice([None, 5.0, 1000.0]))
        elif action < 0.45:
            m.set(("n", draw.randrange(10)), draw.randrange(100))
        elif action < 0.6:
            m.incr(("n", draw.randrange(10)))
        elif action < 0.605:
            m.clear()
        else:
            m.set(key, draw.choice(VALUES), draw.choice([None, 3.0, 1000.0]))


SHAPES = [
    (2, shaped(4 << 20, 2, 100)), (2, shaped(4 << 20, 8, 100)),
    (8, shaped(6 << 20, 1, 100)), (4, shaped(4 << 20, 4, 2_000)), (1, shaped(4 << 20, 16, 20)),
    (8, shaped(4 << 20, 2, 1_000)),
]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("shards", "shape"), SHAPES)
def test_moved_while_it_is_written(
    make: Any, seed: int, shards: int, shape: geometry.Geometry
) -> None:
    draw = random.Random(seed)
    m = make(size="4MB", shards=shards, value_size=100)
    clock = FrozenClock(m)
    some(m, draw, 400)
    moving = Moving(m, shape)
    moving.begin()
    some(m, draw, 100)
    assert max(moving.carry()) == 0
    for _ in range(draw.randrange(6)):
        some(m, draw, draw.randrange(200))
        clock.advance(draw.choice([0, 0, 1.0, 4.0]))
        assert min(moving.follow(draw.choice([1, 7, 1000]))) >= 0
    some(m, draw, 50)
    assert min(moving.settle()) >= 0
    assert moving.problems() == []
    assert moving.entries() == set(m.snapshot().raw_entries())
    view = moving.view()
    assert dict(m) == {key: view[key] for key in m}
    assert {key: m.get_versioned(key)[1] for key in m} == {
        key: view.get_versioned(key)[1] for key in m}


def test_beside_threads_that_write(make: Any) -> None:
    """Nothing is torn, and nothing is lost: real threads (the compiled engine releases the GIL
    while it copies)."""
    m = make(size="4MB", shards=2, value_size=100)
    stop = threading.Event()

    def write(mine: int) -> None:
        draw = random.Random(mine)
        while not stop.is_set():
            key = mine, draw.randrange(300)
            if draw.random() < 0.3:
                m.delete(key)
            else:
                m[key] = bytes([draw.randrange(256)]) * draw.choice((10, 100, 1_500))

    writers = [threading.Thread(target=write, args=(mine,)) for mine in range(3)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(10):
            moving = Moving(m, shaped(6 << 20, 8, 100))
            moving.begin()
            assert max(moving.carry()) == 0
            for _ in range(3):
                assert min(moving.follow(100)) >= 0
            assert min(moving.settle()) >= 0 and moving.problems() == []
            assert all(len(set(entry[3])) == 1 for entry in moving.entries())  # whole
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    moving = Moving(m, shaped(6 << 20, 1, 100))
    moving.begin()
    assert max(moving.carry()) == 0 and min(moving.settle()) >= 0
    assert moving.entries() == set(m.snapshot().raw_entries())


def test_versions_go_on_rising(make: Any) -> None:
    """What a new shard gives out is above what the old one gave, also where the clock was ahead."""
    m = make(size="1MB", shards=2)
    clock = FrozenClock(m)
    clock.advance(3600)
    m["a"] = m["gone"] = 1
    last = m.get_versioned("gone")[1]
    del m["gone"]
    clock.advance(-3600)
    moving = Moving(m, shaped(1 << 20, 2, 100))
    moving.begin()
    moving.carry()
    moving.settle()
    view = moving.view()
    view["a"] = 2
    view["gone"] = 2
    assert view.get_versioned("gone")[1] > last


def test_an_old_shard_keeps_tracking_one_mover(make: Any) -> None:
    m = make(size="1MB", shards=1)
    m["a"] = 1
    moving = Moving(m, shaped(1 << 20, 1, 100))
    moving.begin()
    moving.carry()
    m.snapshot()  # takes the marks for itself
    m["a"] = 2
    assert moving.follow(10) == [1 << 20] and moving.settle() == [1 << 20]


def test_what_does_not_fit(make: Any) -> None:
    m = make(size="2MB", shards=1, value_size=100)
    for number in range(2_000):
        m[number] = bytes(100)
    moving = Moving(m, shaped(200_000, 1, 100))
    moving.begin()
    assert moving.carry() == [status.FULL] and moving.moves[0].failed > 1
    m["large"] = bytes(50_000)
    moving = Moving(m, shaped(160_000, 2, 10))
    m.clear()
    m["large"] = bytes(120_000)
    moving.begin()
    assert min(moving.carry()) in (status.TOO_LARGE, status.FULL)
    m["large"] = 1
    assert min(moving.follow(10)) >= 0  # it is small now
    assert min(moving.settle()) >= 0 and moving.view()["large"] == 1


def test_what_has_changed_is_not_carried_as_it_was(make: Any) -> None:
    """It may be torn, or, as here, too large for the new shards and gone by now."""
    m = make(size="2MB", shards=1, value_size=100)
    m["large"], m["other"] = bytes(120_000), 1
    moving = Moving(m, shaped(160_000, 2, 10))
    moving.begin()
    m["large"] = 2
    assert moving.carry() == [0] and {entry[1] for entry in moving.entries()} == {b"other"}
    assert moving.settle()[0] > 0 and moving.view()["large"] == 2


def test_what_is_full_is_tried_again(make: Any) -> None:
    """A slot that could not be carried stays marked."""
    m = make(size="1MB", shards=1, value_size=100)
    moving = Moving(m, shaped(200_000, 1, 100))
    moving.begin()
    moving.carry()
    for number in range(1_500):
        m[number] = bytes(100)
    assert moving.follow(10_000) == [status.FULL]
    for number in range(100, 1_500):
        del m[number]
    while moving.follow(100)[0]:
        pass
    assert moving.settle() == [0]
    assert moving.entries() == set(m.snapshot().raw_entries()) and moving.problems() == []


def test_deadlines_need_their_pages(make: Any) -> None:
    m = make(size="1MB", shards=1)
    m["a"] = 1
    moving = Moving(m, shaped(1 << 20, 1, 100), deadlines=False)
    moving.begin()
    assert moving.carry() == [0]
    m.set("a", 2, ttl=100.0)
    assert moving.follow(10) == [status.NO_DEADLINES] == moving.settle()


def test_into_shards_that_evict(make: Any) -> None:
    m = make(size="1MB", shards=1, value_size=100)
    for number in range(2_000):
        m[number] = bytes(100)
    moving = Moving(m, shaped(200_000, 2, 100, evicts=True))
    moving.begin()
    assert moving.carry() == [0]
    m[1] = b"new"
    assert moving.settle() == [2] and moving.problems() == []  # the old value's slot, the new one's
    kept = moving.entries()
    assert 100 < len(kept) < 2_000 and kept < set(m.snapshot().raw_entries())
    assert moving.view()[1] == b"new"
