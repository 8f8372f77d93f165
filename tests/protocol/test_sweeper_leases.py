"""Which process sweeps: the lease of the sweeper goes on from the dead, the stopped, the forked."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from shmmap.memory.layout import constants

K = constants()


def lease(m: Any) -> int:
    """Read the token of the elected sweeper."""
    return int(m.attachment.control.LEASE)


def take_lease(m: Any) -> bool:
    """Become the sweeper and stay it."""
    m.get("become a worker")
    return bool(m.attachment.sweeper._take_lease(m.attachment.clock.now_ns()))


def wait_until(ready: Any, patience_s: float = 10.0) -> None:
    """Wait for something that other processes do."""
    deadline = time.monotonic() + patience_s
    while not ready():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def test_the_sweeper_starts_after_a_fork(make, start):
    m = make(shards=2, sweep_interval=0.05)
    m["a"] = 1  # no ttl: the parent needs no sweeper

    def work(child: Any) -> int:
        now = m.attachment.clock.now_ns()
        m.attachment.clock.frozen_ns = now
        m.set("short", 1, ttl=10)
        m.attachment.clock.frozen_ns = now + int(20e9)
        words = memoryview(m.attachment.control.mapping.buffer).cast("B").cast("Q")

        def swept() -> bool:
            words[K["C_SWEPT_NS"] >> 3] = 0  # due, also after one that was under way just now
            return bool(m.stats().expired == 1)

        wait_until(swept)
        return m.stats().expired

    assert start(work).result() == 1
    assert m["a"] == 1 and m.check() == []


def test_a_lease_is_lost_at_death(make, start):
    m = make(shards=2, sweep_interval=1000)

    def work(child: Any) -> None:
        assert take_lease(m)
        child.tell("elected")
        signal.pause()

    child = start(work)
    child.hear()
    assert lease(m) != 0 and m.sweep_if_due() is None
    child.kill()
    report = m.sweep_if_due()
    assert report is not None and report.dead_workers == 1 and lease(m) == 0
    assert m.sweep_if_due() is None  # not due again


def test_a_stopped_sweeper_loses_its_lease_after_three_intervals(make, start):
    m = make(shards=2, sweep_interval=1000)

    def work(child: Any) -> Any:
        assert take_lease(m)
        child.tell("elected")
        os.kill(os.getpid(), signal.SIGSTOP)
        return m.attachment.sweeper.sweep(m).seconds  # goes on all the same: harmless

    child = start(work)
    child.hear()
    child.wait_stopped()
    now = m.attachment.clock.now_ns()
    try:
        for intervals, swept in ((0.5, False), (2.9, False), (3.1, True)):
            m.attachment.clock.frozen_ns = now + int(intervals * 1000e9)
            assert (m.sweep_if_due() is not None) is swept, intervals
    finally:
        m.attachment.clock.frozen_ns = -1
    child.go_on()
    assert child.result() >= 0
    assert m.check() == [] and lease(m) == 0


def test_a_process_that_is_stopped_as_it_chooses_the_sweeper_stops_no_sweeping(make, start):
    m = make(shards=2, sweep_interval=1000)

    def work(child: Any) -> Any:
        m.get("a")
        assert m.attachment.worker.try_lease()
        child.tell("choosing")
        os.kill(os.getpid(), signal.SIGSTOP)
        m.attachment.worker.end_lease()

    child = start(work)
    child.hear()
    child.wait_stopped()
    now = m.attachment.clock.now_ns()
    try:
        for intervals, swept in ((2.9, False), (3.1, True), (4.2, False), (6.3, True)):
            m.attachment.clock.frozen_ns = now + int(intervals * 1000e9)
            assert (m.sweep_if_due() is not None) is swept, intervals
    finally:
        m.attachment.clock.frozen_ns = -1
    child.go_on()
    assert child.result() is None
    assert m.check() == [] and lease(m) == 0


def test_two_sweepers_at_once_are_harmless(make, start):
    m = make(shards=2)
    now = m.attachment.clock.now_ns()
    m.attachment.clock.frozen_ns = now
    for i in range(500):
        m.set(i, i, ttl=5 if i % 2 else 5000)
    children = []

    def work(child: Any) -> int:
        m.attachment.clock.frozen_ns = now + int(10e9)
        child.tell("ready")
        child.hear()
        m.sweep()
        return len(m)

    children = [start(work) for _ in range(3)]
    for child in children:
        child.hear()
    for child in children:
        child.tell("go")
    assert [child.result() for child in children] == [250] * 3
    assert m.stats().expired == 250 and m.check() == []
    m.attachment.clock.frozen_ns = -1
