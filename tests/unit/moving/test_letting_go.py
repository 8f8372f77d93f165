"""Who uses a map that others move does not keep the shards that have moved."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import routes, sweeper
from shmmap.moving import mover, resizing, watch
from shmmap.system.background import Background

MOVE = """
import sys, shmmap
with shmmap.ShmMap.attach(sys.argv[1]) as m:
    m.resize(shards=int(sys.argv[2]))
"""
KEYS = [f"key {n}" for n in range(300)]


def move(m: Any, shards: int) -> None:
    """Have another process move a map."""
    command = [sys.executable, "-c", MOVE, m.name, str(shards)]
    subprocess.run(command, check=True, timeout=60, cwd="/")  # not where the sources are


def mapped(m: Any) -> int:
    """Count the shards that this process has mapped, the lock shard aside."""
    return len(m.attachment.places.all()) - 1


def wait_for(m: Any, shards: int) -> None:
    """Wait until no more shards are mapped than that; the test's timeout ends it."""
    while mapped(m) != shards:
        time.sleep(0.02)


@pytest.fixture
def used(name):
    """A map that this process uses."""
    with shmmap.ShmMap.create(name, size="2MB", shards=4, ephemeral=True) as m:
        m.update(dict.fromkeys(KEYS, b"v"))
        yield m


def test_shards_that_have_moved_are_unmapped(used):
    for shards in (16, 2, 2 * 16):
        move(used, shards)
        assert all(used[key] == b"v" for key in KEYS)
        wait_for(used, shards)
        assert all(used[key] == b"v" for key in KEYS)


def test_those_too_that_are_met_one_after_the_other(used):
    move(used, 16)
    for key in KEYS:
        assert used[key] == b"v"
        time.sleep(0.001)
    wait_for(used, 16)


@pytest.mark.parametrize("is_met", [False, True])
def test_a_forked_child_unmaps_what_its_parent_had_not_yet(used, start, monkeypatch, is_met):
    """The parent has met some of the new shards, or all. The child meets none."""
    monkeypatch.setattr(watch, "look_after", lambda _: None)
    move(used, 16)
    values = [used[key] for key in (KEYS if is_met else KEYS[:1])]
    assert set(values) == {b"v"} and mapped(used) == (20 if is_met else 5)
    monkeypatch.undo()

    def use(_: Any) -> None:
        assert used[KEYS[0]] == b"v"
        wait_for(used, 16)
        assert all(used[key] == b"v" for key in KEYS)

    start(use).end(30)


def test_an_iteration_goes_on_beside_it(used):
    rest = iter(used)
    seen = [next(rest)]
    move(used, 16)
    assert len(used) == len(KEYS)
    wait_for(used, 16)
    seen += rest
    assert sorted(seen) == sorted(KEYS)


def test_what_a_near_cache_holds_is_not_asked_of_them(used):
    with shmmap.ShmMap.attach(used.name, near=100) as near:
        assert all(near[key] == b"v" for key in KEYS)
        move(used, 16)
        assert len(near) == len(KEYS)
        wait_for(near, 16)
        used.update(dict.fromkeys(KEYS, b"w"))
        assert all(near[key] == b"w" for key in KEYS)


def test_who_uses_it_unmoved_runs_nothing_in_the_background(used):
    assert used.attachment.mover is None


# -- what another thread looks at, outside of an operation, stays ----------------------------------


@pytest.fixture
def half_known(used, monkeypatch):
    """The map has moved; this process has found one of its new shards, and looks after nothing."""
    monkeypatch.setattr(watch, "look_after", lambda _: None)
    move(used, 16)
    assert used[KEYS[0]] == b"v" and mapped(used) == 5
    return used


def test_nothing_is_unmapped_that_this_process_goes_by(half_known):
    assert not routes.let_go(half_known.attachment) and mapped(half_known) == 5
    assert all(half_known[key] == b"v" for key in KEYS)
    len(half_known)
    assert routes.let_go(half_known.attachment) and mapped(half_known) == 16


def test_nothing_is_unmapped_while_it_is_swept(half_known, monkeypatch):
    """In the background a sweep is in no operation, and sums up the headers of shards."""
    summed = sweeper.summed
    let_go: list[bool] = []

    def sum_late(mappings: Any, word: Any) -> int:
        if not let_go:
            assert len(half_known) == len(KEYS)
            with ThreadPoolExecutor(1) as other:
                let_go.append(other.submit(routes.let_go, half_known.attachment).result())
        return summed(mappings, word)

    monkeypatch.setattr(sweeper, "summed", sum_late)
    mine = half_known.attachment.sweeper
    half_known.attachment.control.SWEPT_NS = 0
    with ThreadPoolExecutor(1) as sweeps:
        sweeps.submit(mine._sweep_in_background).result()
    assert let_go == [False] and not mine._background.busy
    assert routes.let_go(half_known.attachment) and mapped(half_known) == 16


def test_nothing_is_unmapped_while_a_change_is_taken_back(used, monkeypatch):
    """A mover whose shards have no room for the entries does that by itself."""
    take_back = mover.take_back
    under_way: list[Any] = []

    def take_back_late(handle: Any, *more: Any) -> Any:
        under_way.append(handle._under_way())
        return take_back(handle, *more)

    monkeypatch.setattr(mover, "take_back", take_back_late)
    used.update({("more", n): b"x" * 300 for n in range(2500)})
    with pytest.raises(shmmap.MapFull):
        used.resize(size="300KB")
    monkeypatch.setattr(resizing, "refuse_what_cannot_fit", lambda *_: None)
    with pytest.raises(shmmap.MapFull):
        used.resize(size="300KB")
    assert under_way == [(0, 1)]


def test_a_look_that_may_not_move_the_map_goes_on(half_known, monkeypatch):
    """It is another user's: this process lets go as it has met all that has moved."""
    def refuse(_: Any) -> None:
        raise shmmap.ConfigMismatch("another user's")

    half_known.attachment.mover = Background(lambda: False, 100.0)
    monkeypatch.setattr(watch, "_move", refuse)
    assert watch._look(half_known.attachment)
    len(half_known)
    assert not watch._look(half_known.attachment) and mapped(half_known) == 16
