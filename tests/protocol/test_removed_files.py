"""A map whose files somebody has removed: each process that uses it finds that out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import shmmap

from ..support.leftovers import objects_of

SHM = Path("/dev/shm")


@pytest.mark.parametrize("settings", [{}, {"ttl": 3600}], ids=["no sweeper", "a sweeper"])
def test_files_that_were_removed_are_noticed_by_who_writes(make, name, start, settings):
    """A cleaner of /dev/shm: a writer finds it out at its first write after an interval, without
    a thread for it; readers by writers."""
    m = make(size="1MB", shards=1, sweep_interval=0.05, **settings)
    m["a"] = 1

    def read(child: Any) -> Any:
        reader = shmmap.ShmMap(name)
        assert reader["a"] == 1
        child.tell("ready")
        child.hear()
        return reader.get("a"), reader.get("b")

    child = start(read)
    child.hear()
    for entry in objects_of(name):
        (SHM / entry).unlink()
    deadline = time.monotonic() + 20
    while "a" in m and time.monotonic() < deadline:
        if not settings:
            m.incr("n")
        time.sleep(0.01)
    assert "a" not in m and (settings or not m.attachment.sweeper.is_running())
    m["b"] = 2
    child.tell("removed")
    assert child.result() == (None, 2)


POLLS = {
    "get": lambda m: m.get("b"), "in": lambda m: "b" in m, "pop": lambda m: m.pop("b", None),
    "delete": lambda m: m.delete("b"), "bool and popitem": lambda m: m and m.popitem(),
    "len": len, "items": lambda m: list(m.items()), "get_many": lambda m: m.get_many(["b"] * 10),
    "get_and_touch": lambda m: m.get_and_touch("b"), "touch": lambda m: m.touch("b"),
    "replace": lambda m: m.replace("b", 3), "cas": lambda m: m.cas("b", 3, 7) or "b" in m,
    "clear": lambda m: m.clear() or m.attachment.has_its_name(),
    "repair": lambda m: m.repair() or m.attachment.has_its_name(),
    "snapshot": lambda m: dict(m.snapshot()), "scan": lambda m: m.scan()[1],
    "stats": lambda m: m.stats().entries, "lock": lambda m: m.lock("l").acquire() and "b" in m,
}  # fmt: skip


@pytest.mark.parametrize("poll", POLLS)
def test_files_that_were_removed_are_noticed_by_who_never_writes(make, name, start, poll):
    """A consumer, say, that waits for what will be written into another map."""

    def wait(child: Any) -> Any:
        mine = shmmap.ShmMap(name, size="1MB", shards=1, sweep_interval=0.05)
        child.tell("ready")
        child.hear()
        deadline = time.monotonic() + 20
        while not (found := POLLS[poll](mine)) and time.monotonic() < deadline:
            pass
        return bool(found), mine.attachment.sweeper.is_running()

    child = start(wait)
    child.hear()
    for entry in objects_of(name):
        (SHM / entry).unlink()
    make(size="1MB", shards=1)["b"] = 2
    child.tell("removed")
    assert child.result() == (True, False)


def test_a_near_cache_notices_that_the_files_were_removed(make, name):
    m = make(size="1MB", near=10, sweep_interval=0.05)
    m["a"] = 1
    for entry in objects_of(name):
        (SHM / entry).unlink()
    deadline = time.monotonic() + 20
    while m.get("a") and time.monotonic() < deadline:
        pass
    assert m.get("a") is None


def test_of_two_processes_one_has_a_lock_though_the_files_were_removed(make, name, start):
    """At once, not after an interval."""
    m = make(size="1MB")
    with m.lock("x"):
        pass

    def hold(child: Any) -> None:
        with shmmap.ShmMap(name, size="1MB").lock("x"):
            child.tell("inside")
            child.hear()

    for entry in objects_of(name):
        (SHM / entry).unlink()
    child = start(hold)
    child.hear()
    assert not m.lock("x").acquire(timeout=0.1)
    child.tell("leave")
    child.result()
    assert m.lock("x").acquire(timeout=5)


def test_a_snapshot_that_is_read_often_looks_for_no_files(make):
    m = make(size="1MB", sweep_interval=0.001)
    m["a"] = 1
    still = m.snapshot()
    m.unlink()
    assert all(still["a"] == 1 for _ in range(2000))
