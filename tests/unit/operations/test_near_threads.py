"""The near cache as threads, forks and finalizers meet it in the middle of a read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import shmmap

from .near import BOUNDED, Thing, stuck


def test_a_forked_child_starts_with_none(make, start):
    m = make(near=10, **BOUNDED)
    m["k"] = [1]
    first = m["k"]

    def work(child: Any) -> Any:
        value = m["k"]
        return value is first, m["k"] is value, len(m.near)

    assert start(work).result() == (False, True, 1)
    assert m["k"] is first


def test_a_read_that_was_overtaken_is_not_kept(make):
    """A thread has read and decodes; meanwhile another thread of the handle writes."""
    m = make(near=10, **BOUNDED)
    m["k"] = Slow(1)
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(m["k"]))
    with Slow.held():
        thread.start()
        assert Slow.started.wait(30)
        m["k"] = 2
    thread.join(30)
    assert got[0].number == 1
    assert m["k"] == 2


def test_a_read_that_saw_less_is_not_kept(make):
    """A thread has read and decodes; meanwhile another one reads what a third process wrote."""
    m, other = make(near=10, **BOUNDED), make()
    m["k"] = Slow(1)
    thread = threading.Thread(target=lambda: m["k"])
    with Slow.held():
        thread.start()
        assert Slow.started.wait(30)
        other["k"] = 2
        assert m["k"] == 2
    thread.join(30)
    assert m["k"] == 2
    assert "k" in m


@pytest.mark.skipif(shmmap.ENGINE != "pure", reason="the compiled engine keeps the GIL in there")
def test_a_read_that_begins_as_another_thread_writes_falls_back_on_nothing(make):
    m, other = make(shards=1, near=10, consistency="session", lock_timeout=0.1), make(shards=1)
    writes: list[Any] = []

    class Overtaken(OrderedDict[Any, Any]):
        """Another thread writes just before this one stores, and a third process after it."""

        def __setitem__(self, key: Any, value: Any) -> None:
            if writes:
                writes.pop()()
                stopped.append(stuck(other, "key"))
                stopped[-1].__enter__()
            super().__setitem__(key, value)

    for change in (lambda: m.set("key", 3), lambda: (m.clear(), other.set("key", 3))):
        stopped: list[Any] = []
        m["key"] = 1
        assert m["key"] == 1
        m.near.entries = Overtaken(m.near.entries)
        other["key"] = 2
        writes.append(change)
        with pytest.raises(shmmap.ShardBusy):
            m["key"]
        stopped[0].__exit__(None, None, None)
        assert m["key"] == 3


class Slow:
    """Takes as long to unpickle as a test wants."""

    started = threading.Event()
    go_on = threading.Event()

    def __init__(self, number: int) -> None:
        self.number = number

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        Slow.started.set()
        assert Slow.go_on.wait(30)

    @staticmethod
    @contextmanager
    def held() -> Iterator[None]:
        """Let unpickling wait in here."""
        Slow.started.clear()
        Slow.go_on.clear()
        try:
            yield
        finally:
            Slow.go_on.set()


def test_finalizers_may_call_the_map(make):
    """A value that goes may read, write and fill the near cache it goes from."""
    m = make(near=3)
    m.set_many({i: Thing(i) for i in range(30)})
    called = []

    def watcher(thing: Thing) -> None:
        called.append(thing.number)
        if len(called) < 200:
            m.get((thing.number + 1) % 30)
            m["last"] = thing.number

    Thing.watcher = watcher
    try:
        for i in range(60):
            m.get(i % 30)
            m[i % 30] = Thing(i % 30)
        m.clear()
    finally:
        Thing.watcher = None
    assert called and len(m.near) <= 3 and m.check() == []
