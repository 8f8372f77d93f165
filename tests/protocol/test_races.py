"""Races that were found by reading and by exploration: each schedule, step by step."""

from __future__ import annotations

import gc
import os
import signal
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import checking

pure_only = pytest.mark.skipif(
    shmmap.ENGINE != "pure", reason="steps in where only the pure engine can be stepped into"
)


@pure_only
def test_a_listing_waits_for_a_repair_that_was_broken_off(make, start):
    """A repairer dies with the index empty: no listing may take it for an empty map."""
    from shmmap.shard import _repair_cy

    m = make(shards=1)
    wanted = {i: i for i in range(100)}
    m.update(wanted)

    def die(repairer: Any, slot: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def work(child: Any) -> None:
        _repair_cy.Repairer.examine = die
        m.repair()

    child = start(work)
    assert os.WTERMSIG(child.reap()) == signal.SIGKILL
    assert dict(m.items()) == wanted
    assert list(m) == list(wanted) or sorted(m) == sorted(wanted)
    assert m.stats().takeovers == 1 and m.check() == []


@pure_only
def test_ttl_forgets_the_deadline_of_an_attempt_that_failed(make, monkeypatch):
    from shmmap.shard import _lookup_cy

    m = make(shards=1)
    m.set("k", 1, ttl=60)
    real = _lookup_cy.ShardLookup.confirm

    def confirm(shard: Any, found: Any) -> Any:
        monkeypatch.setattr(_lookup_cy.ShardLookup, "confirm", real)
        m.set("k", 2, ttl=None)  # another process, just here
        return real(shard, found)

    monkeypatch.setattr(_lookup_cy.ShardLookup, "confirm", confirm)
    assert m.ttl("k") is None


def test_check_beside_the_first_ttl_of_a_shard(make, monkeypatch):
    """The deadlines get their pages after check() has decided how much to copy."""
    m = make(shards=1)
    m.update({i: i for i in range(1000)})
    real = checking.copy_shard

    def copy(handle: Any, number: int, length: int) -> Any:
        m.set("first", 1, ttl=60)
        return real(handle, number, length)

    monkeypatch.setattr(checking, "copy_shard", copy)
    assert m.check() == []
    monkeypatch.undo()
    assert m.check() == []


@pytest.mark.parametrize("threshold", [1, 3, 9, 10, 19, 31])
def test_handles_collected_while_a_map_is_opened(name, threshold):
    """The collector may drop a map's last handle in the middle of opening it again."""
    old = gc.get_threshold()
    first = shmmap.ShmMap(name, "256KB", shards=1, sweep_interval=None)
    first["k"] = 1
    first.ring = first  # a cycle: only the collector drops it
    del first
    gc.set_threshold(threshold, 1, 1)
    try:
        with shmmap.ShmMap(name) as m:
            assert m["k"] == 1
    finally:
        gc.set_threshold(*old)


@pytest.mark.parametrize("closes", [False, True])
def test_an_ephemeral_map_lives_as_long_as_its_heirs_have_it_open(name, start, closes):
    """A forked child that has not used it yet keeps it, by the memory that it inherited: one that
    has closed every descriptor, too."""
    parameters = {"size": "256KB", "shards": 1, "ephemeral": True, "sweep_interval": None}
    go, told = os.pipe(), os.pipe()

    def heir(m: Any) -> None:
        signal.alarm(30)
        if closes:
            os.close(m.attachment.worker.descriptor)
        os.write(told[1], b"here")
        os.read(go[0], 1)
        m["b"] = 1
        os.write(told[1], b"written")
        os.read(go[0], 1)
        m.close()
        os.write(told[1], b"closed")
        os._exit(0)

    def owner(child: Any) -> None:
        m = shmmap.ShmMap(name, **parameters)
        m["a"] = 1
        if os.fork() == 0:
            heir(m)
        child.tell("forked")
        child.hear()

    child = start(owner)
    child.hear()
    child.kill()
    child.reap()
    assert os.read(told[0], 20) == b"here"
    with shmmap.ShmMap(name, **parameters) as m:
        assert "a" in m
        os.write(go[1], b"x")
        assert os.read(told[0], 20) == b"written"
        assert len(m) == 2
    os.write(go[1], b"x")
    assert os.read(told[0], 20) == b"closed"  # the last: it removes the map
    for end in (*go, *told):
        os.close(end)
