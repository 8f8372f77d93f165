"""What `resize` is asked for: the arguments, and what the way to the wished shape takes."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest

from shmmap.errors import SharedMemoryFull
from shmmap.lifecycle import store
from shmmap.lifecycle.parameters import UNSAID, Parameters
from shmmap.memory.geometry import Geometry, plan_size
from shmmap.memory.layout import PAGE
from shmmap.moving.wish import plan_wish, read_rate, read_wish
from shmmap.shard._moving_cy import move_bytes_needed
from shmmap.system import segment

ACTUAL = Parameters.read({
    "size": 1 << 20, "shards": 8, "value_size": 50, "on_full": "raise", "codec": "safe", "ttl": 5,
    "mode": 0o660, "hash_seed": 7,
})
HELD = ACTUAL._replace(size=None, capacity=500)


@pytest.mark.parametrize(("actual", "said", "changed"), [
    (ACTUAL, {"shards": 16}, {"shards": 16}),
    (ACTUAL, {"size": "4MB"}, {"size": 4_000_000}),
    (ACTUAL, {"capacity": 1e3}, {"capacity": 1_000, "size": None}),
    (HELD, {"size": 2e6}, {"size": 2_000_000, "capacity": None}),
    (HELD, {"capacity": 9}, {"capacity": 9}),
    (HELD, {"shards": 1}, {"shards": 1}),
    (ACTUAL, {"value_size": 0}, {"value_size": 0}),
    (ACTUAL, {"key_size": 40, "size": None, "capacity": UNSAID}, {"key_size": 40}),
    (ACTUAL, {"on_full": "evict", "shards": 2}, {"on_full": "evict", "shards": 2}),
])
def test_what_is_not_said_stays(
    actual: Parameters, said: dict[str, Any], changed: dict[str, Any]
) -> None:
    assert read_wish(actual, said) == actual._replace(**changed)


@pytest.mark.parametrize("said", [
    {"shards": 3}, {"shards": 0}, {"shards": 8192}, {"shards": "8"}, {"shards": True},
    {"size": "many"}, {"size": 0}, {"size": 1.5}, {"size": 1 << 70}, {"capacity": 0},
    {"capacity": "9"}, {"size": 1e6, "capacity": 10}, {"value_size": -1}, {"value_size": 1 << 32},
    {"value_size": 2.5}, {"key_size": -1}, {"key_size": "x"}, {"on_full": "wait"},
    {"on_full": 1},
])
def test_what_no_map_can_have_is_refused_as_for_a_new_map(said: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)) as new:
        Parameters.read(said)
    with pytest.raises(type(new.value)) as ours:
        read_wish(ACTUAL, said)
    assert str(ours.value) == str(new.value)


@pytest.mark.parametrize(("said", "text"), [
    ({}, "resize() got nothing to change: say shards=, size= or capacity=, value_size=, key_size= "
         "or on_full=, or several of them"),
    ({"size": None, "shards": UNSAID}, "resize() got nothing to change: say shards=, size= or "
     "capacity=, value_size=, key_size= or on_full=, or several of them"),
    ({"ttl": 5, "shards": 4}, "resize() got an unexpected keyword argument 'ttl'"),
    ({"maxsize": 5, "x": 4}, "resize() got unexpected keyword arguments 'maxsize' (here it is "
     "capacity= (entries) or size= (bytes)), 'x'"),
])
def test_what_resize_does_not_take(said: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError) as refused:
        read_wish(ACTUAL, said)
    assert str(refused.value) == text


def test_rates() -> None:
    assert [read_rate(rate) for rate in (None, 1, 1e3, 10**30)] == [0, 1, 1_000, 1 << 40]
    for value in (0, -1, -1e3):
        with pytest.raises(ValueError, match=r"^rate=-?\d+ must be at least 1 entry a second"):
            read_rate(value)
    wrong: Any
    for wrong in ("5", 1.5, True, timedelta(seconds=1)):
        with pytest.raises(TypeError, match=r"^rate must be entries a second \(int\) or None, not"):
            read_rate(wrong)


# -- what it takes -----------------------------------------------------------------------------


def peak_of(old: Geometry, new: Geometry) -> int:
    """Go through the steps of a move, and return the most bytes that there are on the way."""
    groups = min(old.shards, new.shards)
    there = {("old", n): old.areas.end + PAGE for n in range(old.shards)}
    least = old.total_bytes - sum(there.values())  # what is neither shard nor its semaphore
    most = 0
    for group in range(groups):
        there |= {("new", n): new.areas.end + PAGE for n in range(new.shards)
                  if n * groups // new.shards == group}
        most = max(most, least + sum(there.values()))
        for n in range(old.shards):
            if n * groups // old.shards == group:
                del there["old", n]
    assert least + sum(there.values()) == new.total_bytes
    return most


@pytest.mark.parametrize(("shards", "wanted", "size", "value_size"), [
    *itertools.product((1, 8), (1, 4, 32), ("600kB", "1MB", "5MB"), (None, 700)),
])
def test_bytes_at_the_peak(
    make: Any, shards: int, wanted: int, size: str, value_size: int | None
) -> None:
    m = make(size="1MB", shards=shards)
    said = {"shards": wanted, "size": size, "value_size": value_size}
    planned = plan_wish(m.attachment, read_wish(m.attachment.parameters, said))
    old, new = m.attachment.geometry, planned.shape
    assert new == planned.parameters.plan() and new.shards == wanted
    assert planned.bytes_now == old.total_bytes and planned.bytes_then == new.total_bytes
    assert planned.bytes_meanwhile == peak_of(old, new)
    assert planned.groups == min(shards, wanted)
    assert planned.private_bytes == (
        max(1, shards // wanted) * move_bytes_needed(old.slots, old.slot_size))
    for number in (planned.bytes_now, planned.bytes_then, planned.bytes_meanwhile,
                   planned.private_bytes):
        assert f"{number:,} bytes" in str(planned) or f"{number:,} after" in str(planned) or (
            f"{number:,} meanwhile" in str(planned))


@pytest.mark.parametrize("has_deadlines", [False, True])
def test_no_room_for_the_peak(
    make: Any, monkeypatch: pytest.MonkeyPatch, has_deadlines: bool
) -> None:
    """One byte too few is too few; the pages of deadlines count where there are some."""
    m = make(size="1MB", shards=4)
    m.set("a", 1, 1000 if has_deadlines else None)
    parameters = read_wish(m.attachment.parameters, {"size": "3MB"})
    asked = plan_wish(m.attachment, parameters).asked
    shape, old = parameters.plan(), m.attachment.geometry
    end = "end" if has_deadlines else "deadlines"
    assert asked == 4 * getattr(shape.areas, end) - 3 * getattr(old.areas, end) + PAGE
    monkeypatch.setattr(segment, "free_bytes", lambda: asked)
    assert plan_wish(m.attachment, parameters).asked == asked
    monkeypatch.setattr(segment, "free_bytes", lambda: asked - 1)
    with pytest.raises(SharedMemoryFull, match=(
        rf"has no room for resizing map '{m.name}': {asked:,} bytes asked, {asked - 1:,} free"
    )):
        plan_wish(m.attachment, parameters)


def test_maps_whose_time_is_over_give_way(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    m = make(size="1MB", shards=4)
    parameters = read_wish(m.attachment.parameters, {"size": "3MB"})
    asked, free = plan_wish(m.attachment, parameters).asked, 0

    def reap(but: str) -> int:
        nonlocal free
        assert but == m.name
        free = asked
        return 1

    monkeypatch.setattr(segment, "free_bytes", lambda: free)
    monkeypatch.setattr(store, "reap", reap)
    assert plan_wish(m.attachment, parameters).asked == asked


def test_no_such_layout(make: Any) -> None:
    m = make(size="1MB", shards=64)
    with pytest.raises(ValueError, match=r"too small for 64 shards .* or fewer shards="):
        plan_wish(m.attachment, read_wish(m.attachment.parameters, {"size": "200kB"}))


def test_a_wish_is_for_the_shape_that_there_is(make: Any) -> None:
    """The number of shards that a map chose by itself stays."""
    m = make(size="4MB")
    assert m.attachment.geometry.shards > 1
    wished = read_wish(m.attachment.parameters, {"size": "40MB"})
    assert plan_wish(m.attachment, wished).shape == plan_size(
        40_000_000, m.attachment.geometry.shards, None, 16, False)
