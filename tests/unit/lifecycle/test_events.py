"""What happens to a map is written down, logged by who met it, and told to who asks."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import re
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

import shmmap
from shmmap import LockTimeout, MapFull
from shmmap.lifecycle import event_ring
from shmmap.lifecycle.hooks import hooks_of
from shmmap.memory import events
from shmmap.memory.events import NUMBERS, note
from shmmap.memory.geometry import LOCK_NUMBER
from shmmap.memory.layout import constants
from shmmap.memory.words import ShardWords
from shmmap.shard import _status

from ...support.damage import Damage
from ...support.waiting import LIMIT_S, until

K = constants()


def token(m: Any) -> int:
    return int(m.attachment.worker.fork_page.word) | 1


def kinds(m: Any) -> list[str]:
    return [one.kind for one in m.events()]


def holding(m: Any, work: Any) -> Any:
    """Return what a child does: hold shard 0 while it does some work."""
    def hold(child: Any) -> None:
        m.get("become a worker")
        shard = m.attachment.distinct()[0]
        assert shard.lock.lock(token(m), 10**9) == _status.FREE
        child.tell("held")
        work(child)
        shard.lock.unlock()

    return hold


def die_holding(m: Any, start: Any) -> None:
    """Have a child die that holds shard 0, in the middle of a change."""
    def die(child: Any) -> None:
        Damage(m).set_header("DIRTY", 1)
        os._exit(0)

    start(holding(m, die)).reap()


def test_a_death_is_a_takeover_and_a_repair(make, start):
    m = make(shards=1, lock_timeout=10)
    die_holding(m, start)
    before = time.time()
    m["a"] = 1
    found = m.events()
    assert [(one.kind, one.shard, one.pid) for one in found] == [
        ("takeover", 0, os.getpid()), ("repair", 0, os.getpid())]
    assert all(before - 1 < one.time < time.time() + 1 for one in found)
    assert "taken over from a dead process" in found[0].text and found[1].detail > 0
    assert m.stats().events["takeover"] == m.stats().takeovers == 1
    assert m.events("repair") == found[1:]


def test_a_reader_s_takeover_counts_too(make, start):
    m = make(shards=1, lock_timeout=10)
    m["a"] = 1
    die_holding(m, start)
    assert len(m) == 1  # `heal` takes it over
    assert m.stats().takeovers == 1 and kinds(m)[0] == "takeover"


def test_a_death_in_the_shard_of_named_locks_counts_too(make, start, caplog):
    m = make(shards=2)
    with m.lock("first"):
        pass

    def die(child: Any) -> None:
        m.get("become a worker")
        shard = m.attachment.locks.shards[0]
        assert shard.lock.lock(token(m), 10**9) == _status.FREE
        with ShardWords(m.attachment.locks.mapping.buffer) as header:
            header.DIRTY = 1
        os._exit(0)

    start(die).reap()
    with m.lock("second"):
        found = m.events()
    assert [(one.kind, one.shard, one.pid) for one in found] == [
        ("takeover", LOCK_NUMBER, os.getpid()), ("repair", LOCK_NUMBER, os.getpid())]
    assert LOCK_NUMBER == 4096  # as the documents say
    assert found[0].text.startswith("the locks: its lock was taken over from a dead process")
    assert m.events() == found and m.stats().events["takeover"] == 1
    m.close()
    assert [record.shmmap_event["shard"] for record in caplog.records] == [LOCK_NUMBER] * 2


def test_a_full_table_of_named_locks_is_of_the_locks(make):
    m = make(shards=1)
    with contextlib.ExitStack() as stack, pytest.raises(MapFull):
        for number in range(10**6):
            stack.enter_context(m.lock(number))
    [event] = m.events("full")
    assert event.shard == LOCK_NUMBER and "the locks: no room for" in event.text


def test_all_of_the_named_locks_are_counted(make):
    """One a second is written down of the noisy kinds."""
    m = make(shards=1)
    table = m.attachment.locks
    for _ in range(500):
        note(table, "full")
    assert m.stats().events["full"] == 500 and len(m.events()) == 1
    note(table, "full")
    assert m.stats().events["full"] == 501


def test_what_is_half_written_is_told_later(make):
    m = make(shards=1)
    table = m.attachment.locks
    for detail in (1, 2, 3):
        note(table, "takeover", detail)
    at = K["C_EVENTS"] + 2 * K["EVENT_BYTES"] + 24
    check = table.control_memory[at:at + 8]
    table.control_memory[at:at + 8] = bytes(8)
    assert [one.detail for one in m.events()] == [1]
    table.control_memory[at:at + 8] = check
    assert [one.detail for one in m.events()] == [1, 2, 3]
    note(table, "takeover", 4)
    note(table, "takeover", 5)
    at += 2 * K["EVENT_BYTES"]
    table.control_memory[at:at + 8] = bytes(8)  # by a thread that broke off there
    m.events()
    assert [one.detail for one in m.events()] == [1, 2, 3, 5]
    assert m.stats().events["takeover"] == 5


def test_what_is_told_as_the_interpreter_ends_prints_nothing(name, tmp_path):
    """A traceback keeps the map, and nothing can be imported any more."""
    code = (f"import shmmap\ndef f():\n    m = shmmap.ShmMap({name!r}, size=1 << 20, shards=1)\n"
            "    m.resize(shards=2)\n    raise RuntimeError('meant')\nf()\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True,
                          text=True, timeout=LIMIT_S)
    shmmap.unlink(name)
    assert "meant" in done.stderr and "ignored" not in done.stderr, done.stderr


def test_several_threads_tell_it_once(make):
    m = make(shards=1)
    table = m.attachment.locks
    threads = [threading.Thread(target=lambda: [m.events() for _ in range(200)])
               for _ in range(3)]
    for thread in threads:
        thread.start()
    for detail in range(200):
        note(table, "takeover", detail)
    for thread in threads:
        thread.join(LIMIT_S)
    m.events()
    assert [one.detail for one in m.events()] == list(range(200))
    assert m.stats().events["takeover"] == 200


def test_a_forked_child_does_not_tell_it_again(make, start):
    m = make(shards=1)
    table = m.attachment.locks
    note(table, "corrupt")

    def child(_: Any) -> list[str]:
        m["become a worker"] = 1
        return [one.kind for one in m.events()]

    assert start(child).result(LIMIT_S) == []
    assert kinds(m) == ["corrupt"]


def test_a_repair_that_was_asked_for_is_none(make):
    m = make(shards=2)
    m["a"] = 1
    m.repair()
    assert m.stats().repairs == 2 and m.events() == []


def test_full(make):
    m = make(size="300kB", shards=1)
    for _ in range(3):
        with pytest.raises(MapFull):
            for number in range(100_000):
                m["key", number] = bytes(100)
    assert kinds(m) == ["full"] and m.stats().events["full"] == 3


def test_a_lock_that_cannot_be_had(make, start):
    m = make(shards=1, lock_timeout=0.05)
    child = start(holding(m, lambda child: child.hear()))
    child.hear()
    with pytest.raises(LockTimeout):
        m["a"] = 1
    child.tell("go")
    child.result()
    assert kinds(m) == ["lock_timeout"] and "50 ms" in m.events()[0].text
    m["a"] = 1


def test_a_resize(make):
    m = make(size="2MB", shards=2)
    m.update((number, number) for number in range(1_000))
    m.resize(shards=8)
    m.resize(shards=8)  # nothing to do, and nothing is told
    m.resize(shards=1, size="1MB")
    assert [re.sub(r", \S+ .B$", "", one.text) for one in m.events()] == [
        "begun: to 8 shards", "done: to 8 shards", "begun: to 1 shard", "done: to 1 shard"]
    sizes = [one.detail >> 17 for one in m.events()]
    assert sizes[0] == sizes[1] and sizes[2] == sizes[3] == m.stats().size_bytes
    assert sizes[0] == pytest.approx(2e6, rel=0.1) and sizes[2] == pytest.approx(1e6, rel=0.1)


def test_what_cannot_be_kept(make):
    m = make(size="300kB")
    assert len(m.get_or_set("a", lambda: bytes(10_000_000))) == 10_000_000
    assert [one.text for one in m.events()] == ["a result could not be kept or read: too_large"]
    assert m.stats().latency["compute"].total == 1


def test_many_evictions_a_second(make):
    m = make(size="300kB", shards=1, on_full="evict")
    event_ring.look(m.attachment)  # where it begins
    for number in range(20_000):
        m[number] = bytes(100)
    assert m.stats().evicted > 10_000
    m.attachment.control.EVICTED_SEEN_NS -= 2_000_000_000  # that was two seconds ago
    event_ring.look(m.attachment)
    event_ring.look(m.attachment)  # another process looks, too
    found, = m.events()
    assert found.kind == "evicting" and found.detail > 1_000 and "evicted a second" in found.text
    m.attachment.control.EVICTED_SEEN_NS -= 2_000_000_000
    for number in range(100):
        m[number] = bytes(100)
    event_ring.look(m.attachment)
    assert len(m.events()) == 1  # so few are no event


def test_a_sweeper_looks(make):
    m = make(size="300kB", shards=1, on_full="evict", ttl=60, sweep_interval=0.1)
    m["a"] = 1
    until(lambda: m.attachment.control.EVICTED_SEEN_NS)
    number = 0
    deadline = time.monotonic() + LIMIT_S
    while "evicting" not in kinds(m):
        assert time.monotonic() < deadline
        for _ in range(2_000):
            number += 1
            m[number] = bytes(100)


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


def test_a_hook_is_not_told_of_what_was_before(make):
    m = make(shards=1)
    first: list[Any] = []
    late: list[Any] = []
    m.on(None, first.append)
    note(m.attachment, "takeover", 1, 0)
    m.on(None, late.append)  # before anybody has looked
    until(lambda: first)
    note(m.attachment, "repair", 1, 0)
    until(lambda: late)
    assert [one.kind for one in late] == ["repair"]


def test_a_hook_that_breaks_off_takes_no_event_from_others(make):
    m = make(shards=1)
    seen: list[Any] = []

    def leave(event: Any) -> None:
        raise SystemExit

    m.on(None, leave)
    m.on(None, seen.append)
    note(m.attachment, "takeover", 1, 0)
    note(m.attachment, "repair", 1, 0)
    until(lambda: len(seen) == 2)


def test_a_hook_waits_for_what_is_half_written_once(make):
    m = make(shards=1)
    seen: list[Any] = []
    watching = hooks_of(m)
    watching._background.stopping = True  # the test looks itself
    watching.add(m, None, seen.append)
    note(m.attachment, "takeover", 1, 0)
    note(m.attachment, "repair", 1, 0)
    control = m.attachment.control
    check = control.first + (K["C_EVENTS"] >> 3) + 1 * (K["EVENT_BYTES"] >> 3) + 3
    whole, control.words[check] = control.words[check], 0
    watching._step()
    assert seen == []
    control.words[check] = whole
    watching._step()
    assert [one.kind for one in seen] == ["takeover", "repair"]
    control.EVENT_NEXT += 1  # of one that has died
    note(m.attachment, "takeover", 1, 0)
    watching._step()
    assert len(seen) == 2
    watching._step()
    assert len(seen) == 3


def test_a_hook_hears_what_any_process_has_met(make, start):
    m = make(shards=1)
    note(m.attachment, "full", 1, 0)  # before it was asked for
    every, repairs = [], []
    end, end_too = m.on(None, every.append), m.on("repair", repairs.append)

    def other(child: Any) -> None:
        m.get("become a worker")
        for kind in ("takeover", "repair"):
            note(m.attachment, kind, 5, 0)

    start(other).reap()
    until(lambda: len(every) == 2 and repairs)
    assert [one.kind for one in every] == ["takeover", "repair"] and every[0].pid != os.getpid()
    assert [one.kind for one in repairs] == ["repair"]
    end()
    note(m.attachment, "repair", 6, 0)
    until(lambda: len(repairs) == 2)
    assert len(every) == 2
    end_too()
    end_too()


def test_what_a_hook_raises_is_logged_and_others_are_called(make, caplog):
    m = make()
    seen: list[Any] = []
    m.on(None, lambda event: 1 / 0)
    m.on(None, seen.append)
    note(m.attachment, "repair", 6, 0)
    until(lambda: seen)
    assert "what was to be called for an event raised" in caplog.text


def test_a_hook_in_a_child_is_the_child_s(make, start):
    m = make()
    mine: list[Any] = []
    m.on(None, mine.append)

    def other(child: Any) -> int:
        seen: list[Any] = []
        m.on("repair", seen.append)
        note(m.attachment, "repair", 6, 0)
        until(lambda: seen)
        return len(mine)  # what the parent has asked for is not called here

    child = start(other)
    assert child.result() == 0
    until(lambda: mine)


def test_a_hook_keeps_no_handle_alive_and_ends_with_it(make):
    name = make().name
    m = shmmap.ShmMap.attach(name)
    seen: list[Any] = []
    m.on(None, seen.append)
    del m
    gc.collect()
    until(lambda: len(shmmap.ShmMap.attach(name).attachment.handles) <= 2)


def test_wrong_kinds_are_refused(make):
    m = make()
    with pytest.raises(ValueError, match="'fire' must be"):
        m.events("fire")
    with pytest.raises(ValueError, match="'fire' must be"):
        m.on("fire", print)
    with pytest.raises(TypeError, match="callable"):
        m.on("full", "print")  # type: ignore[arg-type]
    assert set(m.stats().events) == set(NUMBERS)


def test_what_has_passed_between_two_looks(make):
    m = make(shards=1)
    for number in range(100):
        m[number] = number
    before = m.stats()
    for number in range(2_100):
        m[number % 7] = number
        m.get(number % 7)
    m.get("none")
    passed = m.stats().since(before)
    assert passed.counts["hits"] == passed.counts["writes"] == 2_100
    assert passed.counts["misses"] == 1 and passed.hit_ratio == 2_100 / 2_101
    assert passed.seconds > 0 and passed.per_s("writes") == 2_100 / passed.seconds
    assert passed.per_s("full") == 0
    with pytest.raises(KeyError, match=r"'written' is none of .*writes"):
        passed.per_s("written")
    with pytest.raises(TypeError, match="not int"):
        m.stats().since(5)  # type: ignore[arg-type]
    # each kind by a count of its own: else one that alternates would have one kind timed only
    assert passed.latency["read"].total == passed.latency["write"].total == 2
    assert passed.latency["lock_hold"].total == passed.latency["write"].total
    assert before.since(m.stats()).seconds == 0.0  # the wrong way round


def test_a_snapshot_is_timed(make):
    m = make()
    m["a"] = 1
    m.snapshot()
    found = m.stats().latency["snapshot"]
    assert found.total == 1 and 0 < found.percentile(50) < 1


def test_what_a_killed_worker_has_counted_stays(make, start):
    m = make(shards=1)

    def work(child: Any) -> None:
        for number in range(3_000):
            m[number % 5] = number
        os._exit(0)

    start(work).reap()
    m.sweep()
    assert m.stats().latency["write"].total == 2 and m.stats().writes == 3_000


def test_a_wait_is_timed(make, start):
    m = make(shards=1, lock_timeout=10)
    child = start(holding(m, lambda child: time.sleep(0.05)))
    child.hear()
    m["a"] = 1
    child.reap()
    found = m.stats().latency["lock_wait"]
    assert found.total == 1 and 0.01 < found.percentile(50) < 1
