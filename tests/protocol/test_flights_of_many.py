"""get_or_set of many at once: one computes, the dead are replaced, a timeout says who computes."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytest

import shmmap

SOON_S = 2.0  # a takeover takes milliseconds; this machine may be busy


def test_those_who_wait_for_what_cannot_be_kept_compute_side_by_side(make, start):
    m = make()
    big = bytes(10**7)
    begun = threading.Barrier(5)
    inside: list[int] = []

    def factory() -> bytes:
        inside.append(1)
        if len(inside) > 1:  # the four who waited are in here together
            begun.wait(20)
        else:
            time.sleep(0.1)
        return big

    def work() -> None:
        assert m.get_or_set("k", factory) is big

    def another(child: Any) -> bool:
        child.hear()
        return bool(m.get_or_set("k", lambda: big) == big)

    child = start(another)
    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inside) == 6 and m.stats().uncached == {"too_large": 6}
    child.tell("go")
    assert child.result() is True
    assert not m.attachment.locks.holds


def test_no_shard_is_locked_meanwhile(make):
    m = make(shards=1, lock_timeout=0.5)

    def factory() -> int:
        thread = threading.Thread(target=lambda: m.set_many({i: i for i in range(50)}))
        thread.start()
        thread.join(5)
        with m.lock("other"):
            return len(m)

    assert m.get_or_set("k", factory) == 50


def test_a_thousand_misses_are_one_call(make, start):
    """Eight processes of 125 threads each miss one key at once."""
    m = make(size="4MB")
    processes, threads = 8, 125

    def work(child: Any) -> tuple[int, int]:
        gate = threading.Barrier(threads + 1)
        results: list[Any] = []

        def factory() -> str:
            m.incr("calls")
            time.sleep(0.2)
            return "made once"

        def ask() -> None:
            gate.wait()
            results.append(m.get_or_set("k", factory, timeout=50))

        crowd = [threading.Thread(target=ask) for _ in range(threads)]
        for thread in crowd:
            thread.start()
        child.tell("ready")
        child.hear()
        gate.wait()
        for thread in crowd:
            thread.join()
        return len(results), len({*results})

    children = [start(work) for _ in range(processes)]
    for child in children:
        assert child.hear() == "ready"
    for child in children:
        child.tell("go")
    assert [child.hear(55) for child in children] == [(threads, 1)] * processes
    for child in children:
        child.reap()
    assert m["calls"] == 1
    assert m.attachment.locks.count() == 0


def computing(m: Any, **parameters: Any) -> Any:
    """Make a child's work: compute the key, waiting to be told when to end."""
    def work(child: Any) -> Any:
        def factory() -> str:
            child.tell("computing")
            child.hear()
            return f"by {os.getpid()}"

        return m.get_or_set("k", factory, **parameters)

    return work


def test_a_killed_computer_is_replaced_at_once(make, start):
    m = make()
    first = start(computing(m))
    assert first.hear() == "computing"
    second = start(computing(m))
    time.sleep(0.2)
    killed = time.monotonic()
    first.kill()
    assert second.hear() == "computing"
    assert time.monotonic() - killed < SOON_S
    second.tell("end")
    assert second.result() == m["k"] == f"by {second.pid}"
    second.reap()


def test_who_waits_gets_what_the_other_computed(make, start):
    m = make()
    first = start(computing(m))
    assert first.hear() == "computing"
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(m.get_or_set("k", lambda: "mine")))
    thread.start()
    time.sleep(0.1)
    assert not got
    first.tell("end")
    thread.join(10)
    assert got == [f"by {first.pid}"] == [first.result()]
    first.reap()


def test_a_timeout_names_who_computes(make, start):
    m = make()
    first = start(computing(m))
    assert first.hear() == "computing"
    with pytest.raises(shmmap.LockTimeout, match=rf"computing of 'k'.*process {first.pid} "):
        m.get_or_set("k", int, timeout=0.05)
    first.tell("end")
    first.result()
    first.reap()


def test_a_failed_computing_is_tried_by_the_next(make, start):
    m = make()

    def work(child: Any) -> Any:
        def factory() -> Any:
            child.tell("computing")
            child.hear()
            raise ArithmeticError("no")

        with pytest.raises(ArithmeticError):
            m.get_or_set("k", factory)

    first = start(work)
    assert first.hear() == "computing"
    second = start(computing(m))
    time.sleep(0.05)
    first.tell("fail")
    first.result()
    first.reap()
    assert second.hear() == "computing"
    second.tell("end")
    assert second.result() == m["k"]
    second.reap()


def test_values_that_are_gone_at_once_are_computed_by_one_after_the_other(make):
    m = make()
    inside, most, calls = [0], [0], [0]

    def factory() -> int:
        inside[0] += 1
        calls[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.005)
        inside[0] -= 1
        return calls[0]

    threads = [threading.Thread(target=lambda: m.get_or_set("k", factory, ttl=0))
               for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [8] and most == [1]
