"""m.lock(key, lease=...): how long it lasts, for whom it ends, and how it is extended."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import pytest

import shmmap

from .holders import SOON_S, entries, take_and_stop

TICK_S = 1 / 64  # what a lease is rounded up to


def test_the_sweep_frees_leases_that_are_over(make):
    m = make()
    lock = m.lock("a", lease=0.01)
    lock.acquire()
    time.sleep(0.01 + TICK_S)
    assert entries(m) == 0  # it is over, though its entry is still there
    assert m.sweep().dead_locks == 0 and entries(m) == 0
    with pytest.raises(shmmap.LockLost, match="lease"):
        lock.release()


def test_a_stopped_holder_loses_its_lease(make, start):
    m = make()
    holder = start(take_and_stop(m, "a", lease=0.3))
    first = holder.hear()
    holder.stop()
    with m.lock("a", timeout=30) as lock:
        assert lock.token > first
        holder.tell("go on")
        holder.go_on()
        assert "lease had passed" in holder.result()
        assert lock.held, "who lost it freed the other's lock"


def test_a_lease_lasts_as_long_as_said(make, start):
    m = make()
    holder = start(take_and_stop(m, "a", lease=0.5))
    holder.hear()
    began = time.monotonic()
    with m.lock("a", timeout=30):
        assert 0.3 < time.monotonic() - began < 0.5 + SOON_S


@pytest.mark.parametrize("lease", [1e-12, 1e-9, 1e-6, 2e-5])
def test_a_lease_shorter_than_its_taking_is_taken_and_over(make, lease):
    """It was held for as long as it said; to wait for more would never end."""
    m = make()
    tokens = []
    for number in range(20):
        lock = m.lock("a", lease=lease, timeout=SOON_S)
        while time.clock_gettime(time.CLOCK_BOOTTIME) % TICK_S < TICK_S - 2e-5:
            pass  # a lease is rounded up: it is over as this tick is
        assert lock.acquire()
        tokens.append(lock.token)
        time.sleep(lease + TICK_S)
        assert not lock.held
        with pytest.raises(shmmap.LockLost, match="lease"):
            lock.release()
        with pytest.raises(shmmap.LockLost), m.lock("b", lease=1e-9):
            time.sleep(TICK_S)
        if number % 3:
            with m.lock("a") as other:  # the next holder's token is larger
                tokens.append(other.token)
    assert tokens == sorted(set(tokens)) and tokens[0] > 0
    assert entries(m) <= 2 and m.check() == []


def test_of_many_who_take_it_with_hardly_a_lease_each_comes_to_its_end(make):
    m = make()
    tokens: list[int] = []

    def work() -> None:
        for _ in range(50):
            lock = m.lock("a", lease=1e-9)
            assert lock.acquire()
            tokens.append(lock.token)
            with suppress(shmmap.LockLost):
                lock.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(tokens)) == 200


def test_a_lease_can_be_extended(make, freeze):
    m = make()
    clock = freeze(m)
    lock = m.lock("a", lease=0.2)
    lock.acquire()
    token = lock.token
    for _ in range(5):
        clock.advance(0.1)
        lock.extend(0.3)
    assert lock.held and lock.token == token
    lock.extend(None)
    clock.advance(0.4)
    assert lock.held
    lock.extend()
    clock.advance(0.15)
    assert lock.held
    clock.advance(0.15)
    assert not lock.held
    with pytest.raises(shmmap.LockLost):
        lock.extend(5)
    with pytest.raises(shmmap.LockLost):
        lock.release()


def test_an_error_in_the_block_is_not_hidden_by_a_lost_lease(make):
    m = make()
    with pytest.raises(ZeroDivisionError), m.lock("a", lease=0.01):
        time.sleep(0.01 + TICK_S)
        _ = 1 / 0
    with pytest.raises(shmmap.LockLost), m.lock("a", lease=0.01):
        time.sleep(0.01 + TICK_S)
