"""What happens to a map is logged, once, by the process that has met it, and as it leaves."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import event_ring
from shmmap.memory import events
from shmmap.memory.events import note

from ...support.waiting import LIMIT_S


def test_it_is_logged_once_by_who_met_it(make, start, caplog):
    caplog.set_level(logging.INFO, "shmmap.events")
    m = make(size="2MB", shards=1, lock_timeout=10)
    note(m.attachment, "takeover", 1_000, 0)

    def other(child: Any) -> None:
        m.get("become a worker")
        note(m.attachment, "repair", 5, 0)
        m.close()

    start(other).reap()
    event_ring.look(m.attachment)
    event_ring.look(m.attachment)
    assert [one.getMessage() for one in caplog.records] == [
        f"map {m.name!r}: takeover: shard 0: its lock was taken over from a dead process, after "
        "1 us"]
    record = caplog.records[0]
    assert record.name == "shmmap.events" and record.levelno == logging.WARNING
    assert record.shmmap_event["kind"] == "takeover" and record.shmmap_map == m.name
    note(m.attachment, "resize", 3, 0)
    m.unlink()
    m.close()  # what is left is told as it leaves
    assert caplog.records[-1].levelno == logging.INFO and len(caplog.records) == 2


def test_a_handler_that_raises_harms_nothing(make):
    m = make()

    class Bad(logging.Handler):
        def emit(self, record: Any) -> None:
            raise RuntimeError("out of disk")

    logger, bad = logging.getLogger("shmmap.events"), Bad()
    logger.addHandler(bad)
    try:
        note(m.attachment, "takeover", 1, 0)
        event_ring.look(m.attachment)
        m["a"] = 1
    finally:
        logger.removeHandler(bad)


class Handler(logging.Handler):
    """Calls something with each record of the events."""

    def __init__(self, act: Any) -> None:
        super().__init__()
        self.act = act

    def emit(self, record: Any) -> None:
        self.act(record)

    def __enter__(self) -> Handler:
        logging.getLogger("shmmap.events").addHandler(self)
        return self

    def __exit__(self, *raised: object) -> None:
        logging.getLogger("shmmap.events").removeHandler(self)


@pytest.mark.parametrize("ephemeral", [False, True])
def test_a_handler_may_open_the_map_that_is_just_left(make, start, ephemeral):
    m = make(shards=1, ephemeral=ephemeral)
    again: list[Any] = []

    def keep(record: Any) -> None:
        again.append(shmmap.ShmMap.attach(m.name))
        again[0]["logged"] = record.getMessage()

    note(m.attachment, "takeover", 1, 0)
    with Handler(keep):
        m.close()
    n = again[0]
    assert n.stats().workers == (os.getpid(),)

    def other(child: Any) -> Any:
        with shmmap.ShmMap.attach(n.name) as mine:
            return mine.reap(), len(mine.stats().workers), mine["logged"][:4]

    assert start(other).result() == (0, 2, "map ")  # its opener counts as alive
    n["a"] = 1
    with shmmap.ShmMap.attach(n.name) as same:
        assert same["a"] == 1
    n.unlink()  # its child may still be there
    n.close()


def test_no_lock_is_held_as_it_is_told_what_is_left(make):
    m = make(shards=1, ephemeral=True)
    took: list[float] = []

    def open_in_a_thread(record: Any) -> None:
        def use() -> None:
            began = time.monotonic()
            with shmmap.ShmMap.attach(m.name) as n:
                n["a"] = 1
            took.append(time.monotonic() - began)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join(LIMIT_S)

    note(m.attachment, "takeover", 1, 0)
    with Handler(open_in_a_thread):
        m.close()
    assert took


def test_a_child_that_leaves_the_map_unused_tells_nothing(make, start):
    m = make(shards=1)
    m.get("a")

    def other(child: Any) -> list[str]:
        told: list[str] = []
        with Handler(lambda record: told.append(record.getMessage())):
            child.tell("forked")
            child.hear()
            m.close()
        return told

    child = start(other)
    child.hear()
    note(m.attachment, "takeover", 1, 0)  # by its parent
    child.tell("go")
    assert child.result() == []


@pytest.mark.parametrize("what", ["took", "note"])
def test_no_memory_to_count_it_keeps_no_result_back(make, monkeypatch, what):
    def fail(*_: Any) -> None:
        raise MemoryError

    m = make(size="300kB")
    monkeypatch.setattr(events, what, fail)
    assert len(m.get_or_set("a", lambda: bytes(10_000_000))) == 10_000_000
