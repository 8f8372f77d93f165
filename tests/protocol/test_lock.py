"""The shard lock: takeover, waiting, tokens lost and surplus, stopped owners, forks."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from typing import Any

import posix_ipc
import pytest

import shmmap
from shmmap.shard import _status
from shmmap.system import segment

from ..support.shard0 import GOT_IT, PURE, lock_of, set_word, token

TAKEOVER_S = 1.0 if PURE else 0.2


def die_holding(m: Any, start: Any) -> int:
    """Leave shard 0's lock to a dead owner; return its pid."""

    def hold(child: Any) -> None:
        assert lock_of(m).lock(token(m), 10**9) in GOT_IT
        os.kill(os.getpid(), signal.SIGKILL)

    child = start(hold)
    assert os.WTERMSIG(child.reap()) == signal.SIGKILL
    assert lock_of(m).owner() != 0
    return int(child.pid)


def semaphore_of(m: Any) -> posix_ipc.Semaphore:
    """Open the semaphore of shard 0."""
    return posix_ipc.Semaphore(segment.shard_name(m.name, m.attachment.nonce, 0, 0))


def tokens_of(m: Any) -> int:
    """Count the tokens of shard 0's semaphore."""
    semaphore = semaphore_of(m)
    try:
        return int(semaphore.value)
    finally:
        semaphore.close()


def test_a_dead_owner_is_taken_over(make, start):
    m = make(shards=1, lock_timeout=10)
    die_holding(m, start)
    started = time.monotonic()
    m["a"] = 1
    assert time.monotonic() - started < TAKEOVER_S
    assert m.stats().takeovers == 1 and lock_of(m).owner() == 0


def test_a_zombie_owner_is_taken_over(make, start):
    m = make(shards=1, lock_timeout=10)

    def hold(child: Any) -> None:
        assert lock_of(m).lock(token(m), 10**9) in GOT_IT
        child.tell("held")
        signal.pause()

    child = start(hold)
    child.hear()
    child.signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and not reaped
    started = time.monotonic()
    m["a"] = 1
    assert time.monotonic() - started < TAKEOVER_S and m.stats().takeovers == 1


def test_exactly_one_of_several_waiters_wins(make, start):
    m = make(shards=1, lock_timeout=10)
    for _ in range(5):
        die_holding(m, start)
        before = m.stats().takeovers

        def wait(child: Any) -> tuple[int, bool]:
            me = token(m)
            child.tell("ready")
            child.hear()
            status = lock_of(m).lock(me, 10 * 10**9)
            mine = lock_of(m).owner() == me
            time.sleep(0.01)  # hold it for a while: a second winner would show
            mine = mine and lock_of(m).owner() == me
            lock_of(m).unlock()
            return status, mine

        waiters = [start(wait) for _ in range(4)]
        for waiter in waiters:
            waiter.hear()
        for waiter in waiters:
            waiter.tell("go")
        results = [waiter.result() for waiter in waiters]
        for waiter in waiters:
            waiter.reap()
        assert all(mine for _, mine in results), results
        assert sorted(status for status, _ in results).count(_status.TAKEN_OVER) == 1, results
        assert lock_of(m).owner() == 0 and m.stats().takeovers == before  # counted by handles


def test_waiting_writers_count_one_takeover(make, start):
    m = make(shards=1, lock_timeout=10)
    die_holding(m, start)

    def write(child: Any) -> None:
        m.get("become a worker")
        child.tell("ready")
        child.hear()
        m.incr("n")

    writers = [start(write) for _ in range(4)]
    for writer in writers:
        writer.hear()
    for writer in writers:
        writer.tell("go")
    for writer in writers:
        assert writer.result() is None
    assert m["n"] == 4 and m.stats().takeovers == 1 and m.check() == []


def test_a_lost_token_is_healed(make, start):
    """A waiter that dies between its token and the word takes the token along."""
    m = make(shards=1, lock_timeout=10)
    me = token(m)
    assert lock_of(m).lock(me, 10**9) in GOT_IT

    def write(child: Any) -> float:
        m.get("become a worker")
        child.tell("ready")
        started = time.monotonic()
        m["a"] = 1
        return time.monotonic() - started

    writer = start(write)
    writer.hear()
    time.sleep(0.2)  # it sleeps on the semaphore by now, in its longest slices
    set_word(m, "WAITERS", 0)  # so the release wakes nobody
    lock_of(m).unlock()
    assert 0.15 < writer.result() < 1.0
    assert m["a"] == 1


def test_surplus_tokens_are_harmless(make, start):
    m = make(shards=1, lock_timeout=0.5)
    semaphore = semaphore_of(m)
    try:
        for _ in range(50):
            semaphore.release()
    finally:
        semaphore.close()
    assert lock_of(m).lock(token(m), 10**9) in GOT_IT
    with pytest.raises(shmmap.LockTimeout):  # a token does not open a lock that is held
        m["a"] = 1
    lock_of(m).unlock()

    def count(child: Any) -> None:
        for _ in range(300):
            m.incr("n")

    counters = [start(count) for _ in range(3)]
    for counter in counters:
        assert counter.result() is None
    assert m["n"] == 900 and m.check() == []


def test_releases_do_not_pile_up_tokens(make, start):
    m = make(shards=1, lock_timeout=10)

    def count(child: Any) -> None:
        for _ in range(500):
            m.incr("n")

    counters = [start(count) for _ in range(3)]
    for counter in counters:
        counter.result()
    assert m["n"] == 1500 and tokens_of(m) <= 3


def test_a_missing_semaphore_is_survived(make, name, start):
    m = make(shards=1, lock_timeout=10)
    segment.unlink(segment.semaphore_file(segment.shard_name(name, m.attachment.nonce, 0, 0)))

    def attach_and_count(child: Any) -> int:
        from shmmap.lifecycle import opening

        opening._attachments.clear()  # open everything anew, as an unrelated process would
        other = shmmap.ShmMap.attach(name)
        for _ in range(200):
            other.incr("n")
        return other["n"]

    counters = [start(attach_and_count) for _ in range(2)]
    for counter in counters:
        assert counter.result() >= 200
    assert m["n"] == 400


def test_a_stopped_owner_is_never_robbed(make, start):
    m = make(shards=1, lock_timeout=0.2)

    def hold(child: Any) -> bool:
        me = token(m)
        assert lock_of(m).lock(me, 10**9) in GOT_IT
        os.kill(os.getpid(), signal.SIGSTOP)
        kept = lock_of(m).owner() == me
        lock_of(m).unlock()
        return kept

    child = start(hold)
    child.wait_stopped()

    def try_it(grandchild: Any) -> str:
        try:
            m["a"] = 1
        except shmmap.LockTimeout as error:
            return str(error)
        return "robbed"

    waiters = [start(try_it) for _ in range(3)]
    texts = [waiter.result() for waiter in waiters]
    assert all(f"process {child.pid} " in text and "stopped" in text for text in texts), texts
    m.attachment.worker.clear_dead_rows()  # nor is its row given away
    assert child.pid in m.stats().workers
    child.go_on()
    assert child.result() is True
    m["a"] = 2
    assert m.stats().takeovers == 0


def test_the_timeout_names_holder_and_advice(make, name, start):
    m = make(shards=1, lock_timeout=0.2)

    def hold(child: Any) -> None:
        assert lock_of(m).lock(token(m), 10**9) in GOT_IT
        child.tell("held")
        child.hear()
        lock_of(m).unlock()

    child = start(hold)
    child.hear()
    with pytest.raises(shmmap.LockTimeout) as caught:
        m["a"] = 1
    text = str(caught.value)
    for part in (repr(name), "shard 0", f"process {child.pid} ", "0.2 s", "lock_timeout=",
                 "shards=", "takes over"):
        assert part in text, f"{part!r} is missing in: {text}"
    assert isinstance(caught.value, TimeoutError)
    child.tell("enough")
    assert child.result() is None
    m["a"] = 1


@pytest.mark.parametrize("lock_timeout", [0, 0.05, 1.0])
def test_the_timeout_is_kept(make, start, lock_timeout):
    m = make(shards=1, lock_timeout=lock_timeout)
    assert lock_of(m).lock(token(m), 10**9) in GOT_IT
    started = time.monotonic()
    with pytest.raises(shmmap.LockTimeout):
        m["a"] = 1
    assert lock_timeout <= time.monotonic() - started + 0.001 < lock_timeout + 0.7
    lock_of(m).unlock()


def test_other_threads_run_while_one_waits(make):
    m = make(shards=1, lock_timeout=0.6)
    assert lock_of(m).lock(token(m), 10**9) in GOT_IT
    failures: list[Any] = []

    def wait() -> None:
        try:
            m["a"] = 1
        except shmmap.LockTimeout as error:
            failures.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    steps, longest, last = 0, 0.0, time.monotonic()
    while waiter.is_alive():
        time.sleep(0.001)
        longest = max(longest, time.monotonic() - last)
        last = time.monotonic()
        steps += 1
    waiter.join()
    lock_of(m).unlock()
    assert len(failures) == 1
    assert steps > 50 and longest < 0.3, (steps, longest)


def test_interrupt_while_waiting_leaves_nothing_held(make, start):
    m = make(shards=1, lock_timeout=20)

    def hold(child: Any) -> None:
        assert lock_of(m).lock(token(m), 10**9) in GOT_IT
        child.tell("held")
        child.hear()
        lock_of(m).unlock()

    holder = start(hold)
    holder.hear()

    def wait(child: Any) -> tuple[str, float]:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        m.get("become a worker")
        child.tell("waiting")
        started = time.monotonic()
        try:
            m["a"] = 1
        except KeyboardInterrupt:
            took = time.monotonic() - started
            child.tell(("interrupted", took))
            child.hear()
            m["a"] = 2  # and the handle is as good as before
            m.close()
            return "went on", time.monotonic() - started
        return "wrote", 0.0

    waiter = start(wait)
    waiter.hear()
    time.sleep(0.15)
    waiter.signal(signal.SIGINT)
    what, took = waiter.hear()
    assert what == "interrupted" and 0.05 < took < 2
    holder.tell("enough")
    holder.result()
    assert lock_of(m).owner() == 0
    waiter.tell("go on")
    assert waiter.result()[0] == "went on"
    assert m["a"] == 2 and m.stats().takeovers == 0 and m.check() == []


def raw_fork() -> int:
    """Fork without any of Python's hooks, the GIL held."""
    return int(ctypes.PyDLL(None).fork())


def test_a_raw_fork_is_another_owner(make, start):
    """Parent and child have the same memory of who they are; the wiped page tells them apart."""
    m = make(shards=1, lock_timeout=0.3)
    m["a"] = 1
    mine = token(m)
    assert lock_of(m).lock(mine, 10**9) in GOT_IT

    def try_it(child: Any) -> str:
        try:
            m["a"] = 2
        except shmmap.LockTimeout as error:
            return str(error)
        return "took its parent's lock"

    child = start(try_it, raw_fork)
    assert f"process {os.getpid()} " in child.result()
    child.reap()
    lock_of(m).unlock()
    child = start(lambda child: (m.set("a", 3), token(m))[1], raw_fork)
    theirs = child.result()
    assert theirs >> 22 != mine >> 22 and m["a"] == 3


def test_the_death_of_a_forked_child_does_not_free_its_parents_lock(make, start):
    m = make(shards=1, lock_timeout=0.3)
    assert lock_of(m).lock(token(m), 10**9) in GOT_IT
    for way in (os.fork, raw_fork):
        child = start(lambda child: m.get("a"), way)
        child.result()
        child.reap()

    def try_it(child: Any) -> str:
        try:
            m["a"] = 2
        except shmmap.LockTimeout:
            return "refused"
        return "robbed"

    assert start(try_it).result() == "refused"
    lock_of(m).unlock()
