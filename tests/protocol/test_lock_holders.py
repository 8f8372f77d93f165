"""m.lock(key) whose holder is killed, ends, forks, or is interrupted: nothing stays locked, and
nobody enters twice.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import sys
import threading
import time
from typing import Any

import pytest

import shmmap
from shmmap.locks import leaving
from shmmap.locks.lock_table import LOCK, Record, name_of

from .holders import PURE, SOON_S, entries, take_and_stop


def test_a_killed_holder_is_replaced_at_once(make, start):
    m = make()
    holder = start(take_and_stop(m, "a"))
    token = holder.hear()
    got: list[float] = []

    def wait() -> None:
        with m.lock("a", timeout=30) as lock:
            assert lock.token > token
            got.append(time.monotonic())

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    assert not got
    killed = time.monotonic()
    holder.kill()
    thread.join()
    assert got[0] - killed < SOON_S, f"{got[0] - killed:.3f} s"


def test_who_closes_the_map_holds_no_lock(make, name):
    m, other = make(), make()
    lock = other.lock("a")
    lock.acquire()
    assert entries(m) == 1
    other.close()
    assert entries(m) == 0
    with pytest.raises(shmmap.LockLost, match="closed"):
        lock.release()
    assert not lock.held
    with m.lock("a", timeout=0):
        pass


def test_a_process_that_ends_holds_no_lock(make, start):
    m = make()

    def work(child: Any) -> None:
        m.lock("a").acquire()
        shmmap.lifecycle.opening.leave_all()

    child = start(work)
    child.result()
    child.reap()
    with m.lock("a", timeout=0):
        pass
    assert entries(m) == 0


def test_the_sweep_frees_locks_of_the_dead(make, start):
    m = make()
    holders = [start(take_and_stop(m, n)) for n in range(3)]
    for holder in holders:
        holder.hear()
    with m.lock("mine"):
        assert entries(m) == 4
        for holder in holders[:2]:
            holder.kill()
        assert m.sweep().dead_locks == 2 and entries(m) == 2
        assert m.sweep().dead_locks == 0
    holders[2].tell("leave")
    assert holders[2].result() == "released"


@pytest.mark.parametrize("uses_the_map", [True, False])
def test_a_forked_child_does_not_free_its_parents_lock(make, start, uses_the_map):
    m = make()

    def work(child: Any) -> Any:
        inside = lock.held
        if uses_the_map:
            m["child"] = 1
            with pytest.raises(shmmap.LockTimeout, match=str(os.getppid())):
                m.lock("a", timeout=0.05).__enter__()
        lock.release()
        return inside, lock.held

    with m.lock("a") as lock:
        child = start(work)
        assert child.result() == (False, False)
        child.reap()
        assert lock.held
    assert entries(m) == 0


def test_a_child_that_leaves_the_block_frees_nothing(make):
    m = make()
    with m.lock("a") as lock:
        pid = os.fork()
        if pid == 0:  # leaves the block, in the only way that there is
            code = 1
            try:
                lock.__exit__(None, None, None)
                m.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert lock.held


def test_a_child_forked_while_threads_wait_can_wait_itself(make, start):
    m = make()
    lock = m.lock("a")
    lock.acquire()

    def wait() -> None:
        assert not m.lock("a", timeout=0.5).acquire()

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.1)

    def work(child: Any) -> None:
        with m.lock("a", timeout=30):
            pass

    child = start(work)
    waiter.join()
    lock.release()
    child.result()
    child.reap()


def test_a_raising_signal_handler_leaves_no_lock_behind(make, start):
    m = make()

    def work(child: Any) -> int:
        armed = [False]

        def handler(number: int, frame: Any) -> None:
            # nothing in Python can help a block whose __exit__ has not begun
            if armed[0] and frame.f_code is not shmmap.Lock.__exit__.__code__:
                armed[0] = False
                raise InterruptedError

        signal.signal(signal.SIGUSR1, handler)
        child.tell("ready")
        rounds = raised = 0
        end = time.monotonic() + 2
        while time.monotonic() < end:
            try:
                armed[0] = True
                with m.lock("a", timeout=10):
                    rounds += 1
                armed[0] = False
            except InterruptedError:
                raised += 1
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        return rounds * raised

    child = start(work)
    child.hear()
    rng = random.Random(5)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        child.signal(signal.SIGUSR1)
        time.sleep(rng.random() * 0.004)
    assert child.result(60) > 0
    child.reap()


def test_damaged_records_are_in_nobodys_way(make):
    m = make()
    with m._inside():
        m._lock_table().set(name_of(LOCK, "a"), b"?")
        m._lock_table().set(name_of(LOCK, "b"), Record(2**64 - 1, 1, 1).pack())
    for key in "ab":
        with m.lock(key, timeout=0):
            pass
    assert entries(m) == 0


def test_nobody_enters_twice_while_holders_are_killed(make, start):
    """A counter that is read and written in two steps, fences that must rise, and SIGKILL."""
    m = make()
    workers, kills = 4, 25 if PURE else 60
    shared = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
    COUNTER, INSIDE, FENCE, WRONG, ACKED = 0, 1, 2, 3, 8

    def work(slot: int) -> Any:
        def loop(child: Any) -> None:
            lock = m.lock("counter")
            while True:
                with lock:
                    shared[INSIDE] = os.getpid()
                    if lock.token <= shared[FENCE]:
                        shared[WRONG] |= 1
                    shared[FENCE] = lock.token
                    seen = shared[COUNTER]
                    time.sleep(0)
                    shared[COUNTER] = seen + 1
                    shared[ACKED + slot] += 1
                    if shared[INSIDE] != os.getpid():
                        shared[WRONG] |= 2

        return loop

    rng = random.Random(11)
    children = [start(work(slot)) for slot in range(workers)]
    for _ in range(kills):
        time.sleep(0.01 + rng.random() * 0.02)
        slot = rng.randrange(workers)
        children[slot].kill()
        children[slot] = start(work(slot))
    before = shared[COUNTER]
    deadline = time.monotonic() + 10
    while shared[COUNTER] < before + 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert shared[COUNTER] >= before + 20, "nobody goes on"
    for child in children:
        child.kill()
    acked = sum(shared[ACKED : ACKED + workers])
    assert shared[WRONG] == 0
    assert acked <= shared[COUNTER] <= acked + kills + workers
    with m.lock("counter", timeout=5):
        pass
    assert m.check() == []


def test_a_counter_in_the_map_loses_nothing(make, start):
    m = make()
    m["n"] = 0

    def work(child: Any) -> None:
        for _ in range(100):
            with m.lock("n"):
                m["n"] = m["n"] + 1

    children = [start(work) for _ in range(4)]
    for child in children:
        child.result()
        child.reap()
    assert m["n"] == 400


@pytest.mark.parametrize("event", ["call", "line"])
def test_a_handler_that_raises_as_a_with_ends_leaves_nothing_held(make, event):
    """Also before the first line that could see to it: the lock goes with its statement."""
    m = make(shards=1)
    code = leaving.leave.__code__

    def trace(frame: Any, what: str, argument: Any) -> Any:
        if frame.f_code is not code:
            return None
        if what == event:
            raise KeyboardInterrupt
        return trace

    def broken_off(lock: Any) -> None:
        try:
            with lock:
                sys.settrace(trace)
        finally:
            sys.settrace(None)

    kept = m.lock("kept")
    for lock in (m.lock("report"), kept):
        with pytest.raises(KeyboardInterrupt):
            broken_off(lock)
    until = time.monotonic() + 5
    while m.attachment.locks.count() and time.monotonic() < until:
        time.sleep(0.005)
    assert m.attachment.locks.count() == 0
    with m.lock("report", timeout=0), kept:
        assert kept.held
