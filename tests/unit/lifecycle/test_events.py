"""What happens to a map is written down, whoever meets it."""

from __future__ import annotations

import contextlib
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
from shmmap.memory.events import NUMBERS, note
from shmmap.memory.geometry import LOCK_NUMBER
from shmmap.memory.layout import constants
from shmmap.memory.words import ShardWords
from shmmap.shard import _status

from ...support.waiting import LIMIT_S, until
from .happening import die_holding, holding, kinds, token

K = constants()


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
    sizes = [1000 * (one.detail >> 17) for one in m.events()]
    assert sizes[0] == sizes[1] and sizes[2] == sizes[3] == m.stats().size_bytes // 1000 * 1000
    assert sizes[0] == pytest.approx(2e6, rel=0.1) and sizes[2] == pytest.approx(1e6, rel=0.1)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_resize_that_is_taken_back(make, share):
    class Enough(Exception):
        pass

    def stop(progress: Any) -> None:
        if progress.done >= share:
            raise Enough

    m = make(size="2MB", shards=8)
    m.update((number, number) for number in range(1_000))
    with pytest.raises(Enough):
        m.resize(shards=16, progress=stop, rate=2_000)
    m.resize(wait=False).cancel()
    told = [one.text.partition(",")[0] for one in m.events()]
    assert told[0] == "begun: to 16 shards" and told[-1] == "done: to 8 shards"
    assert told[1:-1] == (["begun: to 8 shards"] if share else [])


def test_a_progress_that_raises_at_the_end_takes_no_event_away(make):
    def stop(progress: Any) -> None:
        if progress.done == 1:
            raise KeyError

    m = make(size="2MB", shards=2)
    with pytest.raises(KeyError):
        m.resize(shards=4, progress=stop)
    assert [one.text.partition(",")[0] for one in m.events()] == [
        "begun: to 4 shards", "done: to 4 shards"]


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


def test_wrong_kinds_are_refused(make):
    m = make()
    with pytest.raises(ValueError, match="'fire' must be"):
        m.events("fire")
    with pytest.raises(ValueError, match="'fire' must be"):
        m.on("fire", print)
    with pytest.raises(TypeError, match="callable"):
        m.on("full", "print")  # type: ignore[arg-type]
    assert set(m.stats().events) == set(NUMBERS)
