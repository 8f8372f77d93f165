"""m.semaphore(key, limit): never more holders than permits, whoever dies."""

from __future__ import annotations

import mmap
import random
import threading
import time
from typing import Any

import pytest

import shmmap

from .holders import PURE, SOON_S, entries


def test_so_many_permits(make):
    m = make()
    first = m.semaphore("db", 3)
    with first as entered:
        assert entered is first and first.held == 1 == entries(m)
        assert m.semaphore("db", 3).acquire() and m.semaphore("db", 3).acquire()
        assert not m.semaphore("db", 3).acquire(blocking=False)
        assert not m.semaphore("db", 3, timeout=0).acquire()
        with pytest.raises(shmmap.Reentered, match="all 3 permits are held by this thread"):
            m.semaphore("db", 3).acquire()
        assert m.semaphore("db", 4).acquire(timeout=0)  # each keeps to its own limit
        assert m.semaphore("other", 1).acquire(timeout=0) and m.lock("db").acquire(timeout=0)
    assert first.held == 0 and m.semaphore("db", 3).acquire(timeout=0)


def test_each_object_leaves_what_it_took(make):
    m = make()
    one, other = m.semaphore("a", 2), m.semaphore("a", 2)
    assert one.acquire() and other.acquire()
    one.release()
    assert (one.held, other.held) == (0, 1)
    with pytest.raises(shmmap.LockLost, match="nothing to release"):
        one.release()
    other.release()
    assert entries(m) == 0


@pytest.mark.parametrize(("limit", "error"), [
    (0, ValueError), (-1, ValueError), (101, ValueError), (2.0, TypeError), (True, TypeError),
])
def test_bad_limits(make, limit, error):
    with pytest.raises(error):
        make().semaphore("a", limit)


def test_a_timeout_names_a_holder(make, start):
    m = make()

    def work(child: Any) -> None:
        with m.semaphore("a", 1):
            child.tell("in")
            child.hear()

    holder = start(work)
    holder.hear()
    with pytest.raises(shmmap.LockTimeout, match=f"semaphore 'a' of 1.*process {holder.pid} "):
        m.semaphore("a", 1, timeout=0.05).__enter__()
    holder.tell("leave")
    holder.result()
    with m.semaphore("a", 1, timeout=0):
        pass


def test_the_dead_leave_their_permits(make, start):
    m = make()

    def work(child: Any) -> None:
        m.semaphore("a", 2).acquire()
        child.tell("in")
        child.hear()

    holders = [start(work) for _ in range(2)]
    for holder in holders:
        holder.hear()
    assert not m.semaphore("a", 2).acquire(timeout=0.05)
    holders[0].kill()
    began = time.monotonic()
    with m.semaphore("a", 2, timeout=20):
        assert time.monotonic() - began < SOON_S
        assert not m.semaphore("a", 2).acquire(timeout=0.02)


def test_a_lease_frees_a_permit(make):
    m = make()
    semaphore = m.semaphore("a", 1, lease=0.05)
    assert semaphore.acquire()
    time.sleep(0.05 + 1 / 64)  # a lease is rounded up to a tick
    with m.semaphore("a", 1, timeout=20):
        with pytest.raises(shmmap.LockLost, match="lease"):
            semaphore.release()
        assert entries(m) == 1


def test_a_forked_child_has_none(make, start):
    m = make()
    with m.semaphore("a", 1) as semaphore:
        child = start(lambda child: (semaphore.held, semaphore.release(),
                                     m.semaphore("a", 1).acquire(timeout=0)))
        assert child.result() == (0, None, False)
        child.reap()
    assert entries(m) == 0


def test_threads_share_an_object(make):
    m = make()
    semaphore = m.semaphore("a", 3)
    inside, most, guard = [0], [0], threading.Lock()

    def work() -> None:
        for _ in range(15):
            with semaphore:
                with guard:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                time.sleep(0.0005)
                with guard:
                    inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 2 <= most[0] <= 3 and entries(m) == 0 == semaphore.held


def test_no_permit_is_had_twice_while_holders_are_killed(make, start):
    """Each writes its own number into a word of the permit that it has, and finds it there."""
    m = make()
    workers, limit, kills = 5, 2, 12 if PURE else 30
    shared = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
    WRONG, TURNS, PERMITS = 0, 1, 8

    def work(slot: int) -> Any:
        def loop(child: Any) -> None:
            semaphore = m.semaphore("a", limit)
            while True:
                with semaphore:
                    at = PERMITS + semaphore._names.index(semaphore._holds[-1].name)
                    shared[at] = slot
                    time.sleep(0.0005)
                    if shared[at] != slot:
                        shared[WRONG] += 1
                    shared[TURNS] += 1

        return loop

    chance = random.Random(3)
    children = [start(work(slot)) for slot in range(workers)]
    for _ in range(kills):
        time.sleep(0.01 + chance.random() * 0.02)
        slot = chance.randrange(workers)
        children[slot].kill()
        children[slot] = start(work(slot))
    before, until = shared[TURNS], time.monotonic() + 20
    while shared[TURNS] < before + 20:
        assert time.monotonic() < until, "nobody goes on"
        time.sleep(0.01)
    for child in children:
        child.kill()
    assert shared[WRONG] == 0
    with m.semaphore("a", limit, timeout=5), m.semaphore("a", limit, timeout=5):
        pass
    assert m.check() == []
