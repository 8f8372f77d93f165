"""Time goes on in a program whose tests stop Python's clocks (freezegun, time-machine)."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import shmmap
from shmmap.memory._clock_cy import monotonic, monotonic_ns

STOPPED = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")
REAL = {name: getattr(time, name) for name in STOPPED}
TIMEOUT_S = 0.1
PATIENCE_S = 20.0  # a wait that never ends fails here


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stop what freezegun stops: functions of `time`, and modules' names for them."""
    for name in STOPPED:
        frozen = partial(int if name.endswith("_ns") else float, REAL[name]())
        monkeypatch.setattr(time, name, frozen)
        for label, module in list(sys.modules.items()):
            if label.partition(".")[0] == "shmmap":
                for other, thing in list(vars(module).items()):
                    if thing is REAL[name]:
                        monkeypatch.setattr(module, other, frozen)
    yield
    monkeypatch.undo()


def in_time(work: Callable[[], Any]) -> list[Any]:
    """Run `work` in a thread: what it gave, or raised, if it ended in time."""
    given: list[Any] = []

    def run() -> None:
        try:
            given.append(work())
        except Exception as error:
            given.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return given


def test_the_clock_of_waits_goes_on(stopped):
    assert time.monotonic() == time.monotonic()
    first = monotonic_ns()
    while monotonic_ns() - first < 1_000_000:
        pass
    assert abs(monotonic() - monotonic_ns() / 1e9) < 1.0
    assert abs(monotonic() - REAL["monotonic"]()) < 1.0


def test_a_timeout_of_a_named_lock_ends_the_wait(make, stopped):
    m = make()
    with m.lock("a"):
        (error,) = in_time(lambda: m.lock("a", timeout=TIMEOUT_S).__enter__())
    assert isinstance(error, shmmap.LockTimeout)


def test_a_timeout_of_a_computing_ends_the_wait(make, stopped):
    m = make()
    begun, done = threading.Event(), threading.Event()
    computing = threading.Thread(
        target=lambda: m.get_or_set("k", lambda: (begun.set(), done.wait(PATIENCE_S))[1])
    )
    computing.start()
    assert begun.wait(PATIENCE_S)
    (error,) = in_time(lambda: m.get_or_set("k", lambda: 1, timeout=TIMEOUT_S))
    done.set()
    computing.join()
    assert isinstance(error, shmmap.LockTimeout) and m["k"] is True


def test_a_shard_that_is_not_free_ends_the_wait(make, stopped, start):
    m = make(shards=1, lock_timeout=TIMEOUT_S)
    m["a"] = 1

    def hold(child: Any) -> None:
        m.get("a")
        attached = m.attachment
        attached.shards[0].lock.lock(attached.worker.fork_page.word | 1, 10**9)
        child.tell("held")
        child.hear()

    child = start(hold)
    assert child.hear() == "held"
    outcomes = in_time(lambda: m.set("a", 2)), in_time(m.snapshot)
    child.tell("leave")
    child.reap()
    for (error,) in outcomes:
        assert isinstance(error, shmmap.LockTimeout)


def test_sweeps_and_reports_go_on(make, stopped, tmp_path):
    m = make(sweep_interval=0.01, ttl=1)
    m["a"] = 1
    m.attachment.clock.frozen_ns = m.attachment.clock.now_ns() + 2_000_000_000
    until = REAL["monotonic"]() + PATIENCE_S
    while m.stats().expired == 0 and REAL["monotonic"]() < until:
        threading.Event().wait(0.005)
    assert m.stats().expired == 1
    assert m.sweep().seconds > 0 and m.dump(tmp_path / "a").seconds > 0
    assert in_time(m.close) == [None]


@pytest.mark.parametrize("write", [
    lambda m: m.set("a", b"x"), lambda m: m.incr("n"), lambda m: m.touch("a", 60),
], ids=["set", "incr", "touch"])
def test_a_write_that_waited_says_when_it_was_made(make, write):
    """It reads the clock before it has the lock: then it must do so again."""
    m = make(shards=1)
    m.update(a=b"", n=0)
    lock = m.attachment.shards[0].lock
    assert lock.lock(m.attachment.worker.fork_page.word | 0x1234, 10**9) == 0
    freed: list[int] = []

    def free() -> None:
        freed.append(m.attachment.clock.now_ns())
        lock.unlock()

    timer = threading.Timer(0.1, free)
    timer.start()
    write(m)
    timer.join()
    versions = [m.get_versioned(key)[1] for key in ("a", "n")]
    assert max(versions) >> 1 >= freed[0]


def test_a_write_after_an_idle_time_says_when_it_was_made(make):
    m = make(shards=1)
    m["a"] = 1
    for _ in range(3):
        threading.Event().wait(0.01)
        before = m.attachment.clock.now_ns()
        m.incr("a")
        assert before <= m.get_versioned("a")[1] >> 1 <= m.attachment.clock.now_ns()
