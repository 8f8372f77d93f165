"""Locks as other libraries have them: `threading.Lock`'s arguments, taken again, renewed leases."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import pytest

import shmmap
from shmmap.locks import leaving

from .holders import SOON_S, entries, take_and_stop

LEASE_S = 0.3


def test_acquire_has_the_arguments_of_threading(make):
    m = make()
    for lock in (m.lock("a"), threading.Lock()):
        assert lock.acquire() is True
        assert lock.acquire(False) is False and lock.acquire(blocking=False) is False
        assert lock.acquire(timeout=0) is False and lock.acquire(True, 0) is False
        assert lock.locked()
        lock.release()
        assert lock.acquire(True, 0.5) is True
        lock.release()
        assert lock.acquire(True, -1) is True
        lock.release()
        assert not lock.locked()
        with pytest.raises(ValueError):
            lock.acquire(False, 1)
        with pytest.raises(ValueError):
            lock.acquire(timeout=-2)
        with pytest.raises(TypeError):
            lock.acquire(2.5)  # seconds, in the place of `blocking`
    assert m.lock("a").acquire(timeout=None)


def test_a_lock_keeps_its_own_timeout(make, start):
    m = make()
    holder = start(take_and_stop(m, "a"))
    holder.hear()
    began = time.monotonic()
    assert m.lock("a", timeout=0.1).acquire() is False
    assert m.lock("a", timeout=0.1).acquire(timeout=-1) is False
    assert 0.2 <= time.monotonic() - began < SOON_S
    holder.tell("leave")
    holder.result()


# -- taken again ------------------------------------------------------------------------------


def test_a_reentrant_lock_is_free_when_it_was_left_as_often(make, start):
    m = make()
    lock = m.lock("a", reentrant=True)
    with lock:
        with m.lock("a", reentrant=True) as inner, lock:
            assert inner.token == lock.token > 0 and inner.held and entries(m) == 1
        assert lock.acquire() and lock.acquire(timeout=0)
        lock.release()
        with pytest.raises(shmmap.Reentered, match="reentrant"):
            m.lock("a").acquire()
        lock.release()
        child = start(lambda child: m.lock("a", timeout=0, reentrant=True).acquire())
        assert child.result() is False
        child.reap()
        assert lock.held
    assert entries(m) == 0 and not lock.held
    with pytest.raises(shmmap.LockLost):
        lock.release()


def test_a_reentrant_lock_excludes_other_threads(make):
    m = make()
    taken: list[bool] = []
    with m.lock("a", reentrant=True) as lock, lock:
        thread = threading.Thread(
            target=lambda: taken.append(m.lock("a", reentrant=True).acquire(timeout=0.02))
        )
        thread.start()
        thread.join()
    assert taken == [False]


@pytest.mark.parametrize("event", ["call", "line"])
def test_a_handler_that_raises_in_an_inner_block_leaves_the_outer_one_whole(make, event):
    m = make()
    code = leaving.leave.__code__

    def trace(frame: Any, what: str, argument: Any) -> Any:
        if frame.f_code is not code:
            return None
        if what == event:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    lock = m.lock("a", reentrant=True)
    with lock:
        with pytest.raises(KeyboardInterrupt), lock:
            sys.settrace(trace)
        assert lock.held and m.attachment.locks.holds
        assert not next(iter(m.attachment.locks.holds.values())).again
    assert entries(m) == 0


# -- renewed ----------------------------------------------------------------------------------


def test_a_renewed_lease_does_not_end_while_its_holder_lives(make, start):
    m = make()

    def work(child: Any) -> Any:
        with m.lock("a", lease=LEASE_S, auto_renew=True) as lock:
            child.tell(lock.token)
            child.hear()
            return lock.held, lock.token

    holder = start(work)
    token = holder.hear()
    until = time.monotonic() + 5 * LEASE_S
    while time.monotonic() < until:
        assert not m.lock("a").acquire(timeout=0.05)
    holder.tell("leave")
    assert holder.result() == (True, token)
    with m.lock("a", timeout=0):
        pass


def test_a_holder_that_is_stopped_renews_nothing(make, start):
    m = make()

    def work(child: Any) -> Any:
        with pytest.raises(shmmap.LockLost), m.lock("a", lease=LEASE_S, auto_renew=True):
            child.tell("in")
            child.hear()
        return "lost"

    holder = start(work)
    holder.hear()
    holder.stop()
    with m.lock("a", timeout=20):
        holder.go_on()
        time.sleep(LEASE_S)
        holder.tell("leave")
        assert holder.result() == "lost"


@pytest.mark.parametrize("kind", ["thread", "task", "killed"])
def test_nor_does_one_that_has_ended(make, start, kind):
    m = make()

    def take() -> None:
        m.lock("a", lease=LEASE_S, auto_renew=True).acquire()

    if kind == "thread":
        thread = threading.Thread(target=take)
        thread.start()
        thread.join()
    elif kind == "task":
        import asyncio

        async def main() -> None:
            await asyncio.gather(m.lock("a", lease=LEASE_S, auto_renew=True).aacquire())
            assert await m.lock("a").aacquire(timeout=20)

        asyncio.run(main())
        return
    else:
        child = start(lambda child: (take(), child.tell("in"), child.hear()))
        child.hear()
        child.kill()
    began = time.monotonic()
    with m.lock("a", timeout=20):
        assert time.monotonic() - began < LEASE_S + SOON_S


def test_what_renews_ends_when_there_is_nothing_to_renew(make):
    m = make()
    before = len(sys._current_frames())
    for lease in (9, LEASE_S, 5):
        with m.lock("a", lease=lease, auto_renew=True), m.lock("b", lease=6, auto_renew=True):
            time.sleep(LEASE_S / 2)
    assert entries(m) == 0
    until = time.monotonic() + SOON_S + 3
    while len(sys._current_frames()) > before:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_close_ends_it_at_once(make):
    m = make()
    m.lock("a", lease=60, auto_renew=True).acquire()
    background = m.attachment.locks.renewing._background
    until = time.monotonic() + SOON_S
    while not background.is_running():
        assert time.monotonic() < until
        time.sleep(0.001)
    began = time.monotonic()
    m.close()
    assert time.monotonic() - began < SOON_S / 2 and not background.is_running()


def test_to_leave_beside_renewals_is_not_to_lose(make):
    """The thread that renews may be in the middle of it as the holder leaves."""
    m = make()
    part = m.attachment.locks
    lock = m.lock("a", lease=LEASE_S, auto_renew=True)
    ends = time.monotonic() + 1.5
    stop: list[int] = []

    def renew_all_the_time() -> None:
        while not stop:
            for hold in list(part.holds.values()):
                hold.lapses_ns = 0  # it is due at once
            if part.renewing is not None:
                part.renewing._step()

    thread = threading.Thread(target=renew_all_the_time)
    thread.start()
    rounds = 0
    while time.monotonic() < ends:
        with lock:
            rounds += 1
    stop.append(1)
    thread.join()
    assert rounds > 50 and entries(m) == 0


@pytest.mark.parametrize("parameters", [
    {"auto_renew": True}, {"auto_renew": True, "lease": 0.01}, {"auto_renew": 1, "lease": 5},
    {"reentrant": 1},
])
def test_bad_arguments(make, parameters):
    with pytest.raises((ValueError, TypeError)):
        make().lock("a", **parameters)


def test_a_child_renews_nothing(make, start):
    m = make()

    def work(child: Any) -> Any:
        m["used"] = 1  # a worker of its own
        child.tell("go")
        child.hear()
        return len(m.attachment.locks.holds), m.attachment.locks.renewing

    with m.lock("a", lease=LEASE_S, auto_renew=True) as lock:
        child = start(work)
        child.hear()
        time.sleep(2 * LEASE_S)
        assert lock.held
        child.tell("go")
        assert child.result() == (0, None)
        child.reap()
