"""The thread that makes calls for others, and the breaker."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from functools import partial
from typing import Any

import pytest

from shmmap import Mirror
from shmmap import breaker as breaker_module
from shmmap.breaker import FAILURES, Breaker
from shmmap.mirroring import aside as aside_module
from shmmap.mirroring.aside import Aside, Late


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "shmmap aside"]


def test_calls_are_made_in_order_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where many callers find no thread at once, and it ends in between."""
    monkeypatch.setattr(aside_module, "IDLE_S", 0.001)
    aside, made, by = Aside(), [], set()
    turn = threading.Lock()

    def act(number: int) -> None:
        assert turn.acquire(blocking=False)
        made.append(number)
        by.add(threading.get_ident())
        turn.release()

    def submit(mine: int) -> None:
        for number in range(100):
            aside.submit(partial(act, number * 10 + mine)).wait(10)
            time.sleep(0.001 * (number % 3))

    crew = [threading.Thread(target=submit, args=(mine,)) for mine in range(4)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert len(made) == 400 and aside.drain(5)
    for mine in range(4):
        own = [number for number in made if number % 10 == mine]
        assert own == sorted(own)


def test_what_it_raises_is_its_callers() -> None:
    aside = Aside()

    def exits() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        aside.run(exits, 5.0)
    assert aside.run(lambda: 7, 5.0) == 7
    release = threading.Event()
    with pytest.raises(Late, match=r"more than 0\.01 s"):
        aside.run(lambda: release.wait(20), 0.01)
    release.set()
    assert aside.drain(10)
    release.clear()
    begun = threading.Event()
    aside.submit(lambda: begun.set() or release.wait(20))
    assert begun.wait(10)
    time.sleep(0.02)
    with pytest.raises(Late, match="has not come back yet"):
        aside.run(lambda: 1, 0.01)
    assert not aside.drain(0.01)
    release.set()
    assert aside.drain(10)


def test_what_its_caller_has_given_up_is_not_begun_any_more() -> None:
    """It might write what has been corrected since."""
    aside, release, made = Aside(), threading.Event(), []
    aside.submit(lambda: release.wait(20))
    aside._work.busy_since = 0.0  # as if it had just begun
    with pytest.raises(Late):
        aside.run(lambda: made.append(1), 0.01)
    release.set()
    assert aside.drain(10) and not made


def test_not_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside_module, "MOST_WAITING", 3)
    aside, release = Aside(), threading.Event()
    aside.submit(lambda: release.wait(20))
    with pytest.raises(Late, match="3 calls wait already"):
        for _ in range(5):
            aside.submit(int)
    release.set()
    assert aside.drain(10)


def test_a_thread_that_cannot_be_begun(monkeypatch: pytest.MonkeyPatch, other: Any) -> None:
    """It is as if the new side were slow; once threads can be begun, all goes on."""
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    mirror = Mirror({}, {}, other(size="300KB"), sample=0.0, read_from="new")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for number in range(10):
            mirror["a"] = number
            assert mirror["a"] == number
        report = mirror.report()
        assert report.late and report.missed == 1 and not mirror.flush(0.05)
    mirror._mine().breaker.passed()
    assert mirror.flush() and mirror.new == {"a": 9}


def test_what_ends_a_thread_does_not_reach_the_caller(other: Any) -> None:
    class New(dict[Any, Any]):
        def __setitem__(self, key: Any, value: Any) -> None:
            raise SystemExit

    mirror = Mirror({}, New(), other(size="300KB"), read_from="new")
    mirror["a"] = 1
    assert mirror["a"] == 1 and mirror.flush() and not mirror.new
    assert mirror.report().failed == 1


def test_threads_of_what_was_dropped_end(monkeypatch: pytest.MonkeyPatch, other: Any) -> None:
    m = other(size="300KB")
    before = len(threads())
    monkeypatch.setattr(aside_module, "IDLE_S", 0.05)
    for _ in range(10):
        mirror = Mirror({}, {}, m, sample=1.0)
        mirror["a"] = 1
        assert mirror["a"] == 1
    del mirror
    gc.collect()
    until = time.monotonic() + 20
    while len(threads()) > before:
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(breaker_module, "monotonic", lambda: now[0])
    return now


def asked(breaker: Breaker) -> int:
    """Count how many of ten callers may ask."""
    return sum(breaker.may_ask() for _ in range(10))


def test_after_each_pause_one_asks_and_the_pause_doubles(clock: list[float]) -> None:
    breaker = Breaker()
    assert [breaker.failed() for _ in range(FAILURES)] == [False] * (FAILURES - 1) + [True]
    for _ in range(20):  # under way as it opened: they say nothing new
        assert not breaker.failed()
    for pause in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0):
        assert breaker.is_open and asked(breaker) == 0
        clock[0] += pause - 0.01
        assert asked(breaker) == 0
        clock[0] += 0.01
        assert asked(breaker) == 1 and breaker.failed()
    clock[0] += 60.0
    assert asked(breaker) == 1
    breaker.passed()
    assert not breaker.is_open and asked(breaker) == 10
    assert [breaker.failed() for _ in range(FAILURES)][-1]
    clock[0] += 1.0
    assert asked(breaker) == 1


def test_a_caller_that_asks_and_is_not_heard_of_again(clock: list[float]) -> None:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.failed()
    for _ in range(3):
        clock[0] += 1.0
        assert asked(breaker) == 1  # and as long a pause later another one


def test_of_many_threads_one_asks() -> None:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.failed()
    breaker._until = 0.0
    begin, may = threading.Barrier(8), []

    def ask() -> None:
        begin.wait()
        may.append(breaker.may_ask())

    crew = [threading.Thread(target=ask) for _ in range(8)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert sum(may) == 1


def test_nothing_of_a_stuck_map_reaches_the_caller(make: Any) -> None:
    """A process that was stopped holds the one shard: neither the new side nor the counts hold up
    a caller; the deadline does, five times."""
    m = make(shards=1, lock_timeout=3.0)
    mirror = Mirror({}, m, m, sample=0.0, deadline=0.02)
    mirror["a"] = 0
    assert mirror.flush()
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        m.get("a")  # joins
        m.attachment.shards[0].lock.lock(m.attachment.worker.fork_page.word | 0x1234, 10**9)
        os.write(writes, b"x")
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    try:
        assert os.read(reads, 1) == b"x"
        longest = 0.0
        for number in range(30):
            began = time.monotonic()
            mirror["a"] = number
            assert mirror["a"] == number
            longest = max(longest, time.monotonic() - began)
        assert longest < 1.0
        report = mirror.report()
        assert report.late >= FAILURES and report.skipped
        assert report.missed == 1 and report.equal_for == 0.0
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reads)
        os.close(writes)
    assert mirror.flush(20) and m["a"] == 29
