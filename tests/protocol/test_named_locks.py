"""m.lock(key) between real processes: exclusion, deaths, leases, forks, a full table."""

from __future__ import annotations

import mmap
import os
import pickle
import random
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

import shmmap
from shmmap.locks import named_locks, waiting
from shmmap.locks.lock_table import LOCK, Record, name_of
from shmmap.memory import geometry

PURE = shmmap.ENGINE == "pure"
SOON_S = 2.0  # a takeover or wakeup takes milliseconds; this machine may be busy


def entries(m: Any) -> int:
    """Count the entries of the lock shard."""
    return int(m.attachment.locks.count())


def take_and_stop(m: Any, key: Any, lease: float | None = None) -> Any:
    """Make a child's work: take a lock, say its token, wait to be told, leave the lock."""
    def work(child: Any) -> Any:
        lock = m.lock(key, lease=lease)
        lock.acquire()
        child.tell(lock.token)
        child.hear()
        try:
            lock.release()
        except shmmap.LockLost as error:
            return str(error)
        return "released"

    return work


# -- one process ----------------------------------------------------------------------------


def test_a_lock_is_held_within_its_block(make):
    m = make()
    lock = m.lock("a")
    assert not lock.held and lock.token == 0 and entries(m) == 0
    with lock as entered:
        assert entered is lock and lock.held and entries(m) == 1
        first = lock.token
    assert not lock.held and lock.token == 0 and entries(m) == 0
    with lock:
        assert lock.token > first > 0
    assert m.check() == []


def test_locks_are_no_entries(make):
    m = make()
    before = m.stats()
    with m.lock("a"):
        after = m.stats()
        assert len(m) == 0 and list(m) == [] and "a" not in m and m.get("a") is None
        m["a"] = 1
        m.clear()
        with pytest.raises(KeyError):
            m.popitem()
        assert m.lock("a", timeout=0).held is False
        assert entries(m) == 1
        assert m.sweep().dead_locks == 0 and entries(m) == 1
        m.repair()
        assert entries(m) == 1 and m.check() == []
    for field in ("hits", "misses", "writes", "deletes", "entries", "free_slots"):
        assert getattr(before, field) == getattr(after, field), field


@pytest.mark.parametrize(("key", "same"), [
    ("text", "text"), (b"bytes", b"bytes"), (1, True), (1.0, 1), (None, None), (2.5, 2.5),
    (("a", 1, (None, b"x")), ("a", 1.0, (None, b"x"))), ((None, "k"), (None, "k")),
    ((b"", "k"), (b"", "k")), (1 << 200, 1 << 200), ("x" * 5000, "x" * 5000),
])
def test_keys_are_those_of_the_map(make, key, same):
    m = make()
    with m.lock(key), pytest.raises(shmmap.Reentered):
        m.lock(same).acquire()


def test_locks_of_other_keys_and_computings_do_not_meet(make):
    m = make()
    with m.lock("k"), m.lock((None, "k")), m.lock((b"", "k")), m.lock((b"", (None, "k"))):
        assert m.get_or_set("k", lambda: 5) == 5
        assert m.get_or_set((None, "k"), lambda: 6) == 6
        assert entries(m) == 4


@pytest.mark.parametrize("key", [[], {}, float("nan"), object()])
def test_what_is_no_key_is_refused(make, key):
    with pytest.raises(TypeError):
        make().lock(key)


@pytest.mark.parametrize(("parameters", "error"), [
    ({"timeout": -1}, ValueError), ({"timeout": "1"}, TypeError), ({"timeout": True}, TypeError),
    ({"lease": 0}, ValueError), ({"lease": -1}, ValueError), ({"lease": "1"}, TypeError),
    ({"lease": float("nan")}, ValueError), ({"timeout": float("nan")}, ValueError),
])
def test_bad_arguments(make, parameters, error):
    with pytest.raises(error):
        make().lock("a", **parameters)


def test_a_lock_does_not_pickle_and_says_what_does(make):
    with pytest.raises(TypeError, match="pickle the map"):
        pickle.dumps(make().lock("a"))


def test_release_of_what_is_not_held(make):
    lock = make().lock("a")
    with pytest.raises(shmmap.LockLost, match="has not taken it"):
        lock.release()
    with pytest.raises(shmmap.LockLost):
        lock.extend(1)


def test_the_same_thread_is_told_at_once(make):
    m = make()
    began = time.monotonic()
    with m.lock("a"), pytest.raises(shmmap.Reentered, match="already"):
        m.lock("a", timeout=30).acquire()
    assert time.monotonic() - began < SOON_S


def test_threads_exclude_each_other(make):
    m = make()
    lock = m.lock("a")
    counts = [0]

    def count() -> None:
        for _ in range(50):
            with lock:
                seen = counts[0]
                time.sleep(0)
                counts[0] = seen + 1

    threads = [threading.Thread(target=count) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [300] and entries(m) == 0


def test_another_thread_may_release(make):
    m = make()
    lock = m.lock("a")
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    assert entries(m) == 0
    with lock:
        assert lock.held


def test_one_thread_of_a_process_polls(make, monkeypatch):
    """Of ten that wait for one key; the others look only as often as a turn may have been lost."""
    m = make()
    looks: dict[int, int] = {}

    def counted(part: Any, key: Any, raw: Any, lease: Any) -> int:
        looks[threading.get_ident()] = looks.get(threading.get_ident(), 0) + 1
        return original(part, key, raw, lease)

    table = type(m._inside().__enter__() and m._lock_table())
    original = table.try_take
    monkeypatch.setattr(table, "try_take", counted)

    def wait() -> None:
        with pytest.raises(shmmap.LockTimeout):
            m.lock("a", timeout=0.8).acquire()

    with m.lock("a"):
        threads = [threading.Thread(target=wait) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    often = sorted(looks.values())
    assert often[-2] <= 12 < 30 < often[-1], often


def test_the_pauses_grow_to_their_limit():
    first = [pause for pause, _ in zip(waiting.pauses(), range(10), strict=False)]
    assert first[0] == waiting.FIRST_PAUSE_S and first == sorted(first)
    assert first[-1] == waiting.LONGEST_PAUSE_S <= 0.002


def test_waiting_costs_little(make, start):
    m = make()
    holder = start(take_and_stop(m, "a"))
    holder.hear()
    before = time.process_time()
    with pytest.raises(shmmap.LockTimeout):
        m.lock("a", timeout=1.0).acquire()
    used = time.process_time() - before
    assert used < (0.25 if PURE else 0.15), used


# -- processes ------------------------------------------------------------------------------


def test_a_timeout_names_the_holder(make, start):
    m = make()
    holder = start(take_and_stop(m, "report"))
    holder.hear()
    for timeout in (0, 0.05):
        began = time.monotonic()
        with pytest.raises(shmmap.LockTimeout) as caught:
            m.lock("report").acquire(timeout=timeout)
        assert time.monotonic() - began < SOON_S
        text = str(caught.value)
        assert f"process {holder.pid} (" in text and "'report'" in text and " s. " in text
    holder.tell("leave")
    assert holder.result() == "released"
    with m.lock("report", timeout=0) as lock:
        assert lock.held


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


def test_the_sweep_frees_leases_that_are_over(make):
    m = make()
    lock = m.lock("a", lease=0.01)
    lock.acquire()
    time.sleep(0.02)
    assert entries(m) == 0  # it is over, though its entry is still there
    assert m.sweep().dead_locks == 0 and entries(m) == 0
    with pytest.raises(shmmap.LockLost, match="lease"):
        lock.release()


def test_a_full_table_says_how_many_are_held(make, start):
    m = make()

    def work(child: Any) -> str:
        held = []
        try:
            while True:
                held.append(m.lock(len(held)))
                held[-1].acquire()
        except shmmap.MapFull as error:
            child.tell((len(held) - 1, str(error)))
        child.hear()
        return "done"

    child = start(work)
    count, text = child.hear()
    assert geometry.LOCK_SLOTS - 2 <= count <= geometry.LOCK_SLOTS
    assert f"{count:,} are held" in text and "get_or_set" in text
    with pytest.raises(shmmap.MapFull):
        m.lock("one more", timeout=0).acquire()
    assert m.get_or_set("one more", lambda: 1) == 1 and entries(m) == count
    child.kill()
    with m.lock("one more", timeout=0):  # the dead make room at once
        assert entries(m) == 1
    assert m.check() == []


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
        tokens.append(lock.acquire())
        assert lock.token == tokens[-1]
        time.sleep(lease)
        assert not lock.held
        with pytest.raises(shmmap.LockLost, match="lease"):
            lock.release()
        with pytest.raises(shmmap.LockLost), m.lock("b", lease=1e-9):
            pass
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
            tokens.append(lock.acquire())
            with suppress(shmmap.LockLost):
                lock.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(tokens)) == 200


def test_a_lease_can_be_extended(make):
    m = make()
    clock = m.attachment.clock
    clock.frozen_ns = clock.now_ns()

    def passes(seconds: float) -> None:
        clock.frozen_ns += int(seconds * 1e9)

    lock = m.lock("a", lease=0.2)
    lock.acquire()
    token = lock.token
    for _ in range(5):
        passes(0.1)
        lock.extend(0.3)
    assert lock.held and lock.token == token
    lock.extend(None)
    passes(0.4)
    assert lock.held
    lock.extend()
    passes(0.15)
    assert lock.held
    passes(0.15)
    assert not lock.held
    with pytest.raises(shmmap.LockLost):
        lock.extend(5)
    with pytest.raises(shmmap.LockLost):
        lock.release()
    clock.frozen_ns = -1


def test_an_error_in_the_block_is_not_hidden_by_a_lost_lease(make):
    m = make()
    with pytest.raises(ZeroDivisionError), m.lock("a", lease=0.01):
        time.sleep(0.03)
        _ = 1 / 0
    with pytest.raises(shmmap.LockLost), m.lock("a", lease=0.01):
        time.sleep(0.03)


@pytest.mark.parametrize("uses_the_map", [True, False])
def test_a_forked_child_does_not_free_its_parents_lock(make, start, uses_the_map):
    m = make()

    def work(child: Any) -> Any:
        inside = lock.held
        if uses_the_map:
            m["child"] = 1
            with pytest.raises(shmmap.LockTimeout, match=str(os.getppid())):
                m.lock("a", timeout=0.05).acquire()
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
        with pytest.raises(shmmap.LockTimeout):
            m.lock("a", timeout=0.5).acquire()

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


# -- killed holders -------------------------------------------------------------------------


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
    code = named_locks._Leaving.__call__.__code__

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
