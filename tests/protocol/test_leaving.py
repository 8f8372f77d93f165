"""Leaving named locks where that is not simple: what is left is free for others in the end."""

from __future__ import annotations

import _thread
import errno
import gc
import itertools
import os
import signal
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import shmmap
from shmmap.locks import lock_table, single_flight
from shmmap.locks.lock_table import FLIGHT, LOCK, name_of

from ..support.damage import Damage

SOON_S = 20.0


@pytest.fixture
def seize(start) -> Any:
    """seize(m): have a live process hold the lock shard's own lock, and let it go again."""

    def seize_of(m: Any) -> tuple[int, Callable[[], None]]:
        def work(child: Any) -> None:
            m.get("anything")
            child.tell(m.attachment.worker.fork_page.word)
            child.hear()

        child = start(work)
        shard = Damage(m, m.attachment.geometry.shards)
        assert shard.header("OWNER") == 0
        shard.set_header("OWNER", child.hear() | 1)
        return child.pid, lambda: shard.set_header("OWNER", 0)

    return seize_of


def taken_by_another(m: Any, start: Any, key: Any, timeout: float) -> Any:
    """Have another process take a lock; return what came of it."""

    def work(child: Any) -> str:
        try:
            with m.lock(key, timeout=timeout):
                return "taken"
        except shmmap.LockTimeout:
            return "held"

    child = start(work)
    found = child.result(60)
    child.reap()
    return found


def test_a_release_that_has_to_wait_is_made_up_for(make, start, seize):
    """This process does nothing more, and others get the lock all the same."""
    m = make(lock_timeout=0.05)
    lock = m.lock("a")
    lock.acquire()
    pid, let_go = seize(m)
    began = time.monotonic()
    lock.release()
    assert time.monotonic() - began < SOON_S / 4
    assert taken_by_another(m, start, "a", 0) == "held"
    with pytest.raises(shmmap.LockTimeout, match=f"lock shard.*process {pid} "):
        m.lock("free", timeout=0).__enter__()
    let_go()
    assert taken_by_another(m, start, "a", SOON_S) == "taken"
    m.close()


@pytest.mark.parametrize(("error", "is_tried_again"), [
    (shmmap.SystemCallError(24, "Too many open files"), True), (shmmap.Reentered("busy"), True),
    (MemoryError(), True), (shmmap.MapUnlinked("gone"), False), (shmmap.MapCorrupted("x"), False),
])
def test_what_meets_errors_on_the_way_is_tried_again(make, start, seize, monkeypatch, error,
                                                     is_tried_again):
    m = make(lock_timeout=0.05)
    lock = m.lock("a")
    lock.acquire()
    _, let_go = seize(m)
    real = lock_table.LockTable.drop_abandoned
    tries: list[int] = []

    def refused(table: Any) -> Any:
        tries.append(1)
        if len(tries) <= 3:
            raise error
        return real(table)

    monkeypatch.setattr(lock_table.LockTable, "drop_abandoned", refused)
    lock.release()
    let_go()
    freeing = m.attachment.locks.freeing
    if is_tried_again:
        assert taken_by_another(m, start, "a", SOON_S) == "taken"
        assert freeing.trouble.times == 3 and type(error).__name__ in freeing.trouble.error
    end = time.monotonic() + SOON_S
    while not tries or freeing.is_running():
        assert time.monotonic() < end
        time.sleep(0.001)
    assert len(tries) == (4 if is_tried_again else 1) and not m.attachment.locks.is_owing


def test_so_is_the_end_of_a_computing(make, start, seize):
    m = make(lock_timeout=0.05)
    release: list[Any] = []

    def factory() -> int:
        release.append(seize(m)[1])
        return 1

    assert m.get_or_set("k", factory) == 1
    release[0]()
    del m["k"]
    child = start(lambda child: m.get_or_set("k", lambda: 2, timeout=SOON_S))
    assert child.result(60) == 2
    child.reap()


def test_leaving_does_not_take_the_lock_timeout(make, start, seize):
    m = make(lock_timeout=30)
    locks = [m.lock(number) for number in range(20)]
    for lock in locks:
        lock.acquire()
    pid, _ = seize(m)
    began = time.monotonic()
    for lock in locks[:3]:
        lock.release()
    between = time.monotonic()
    m.close()  # once, not once for each lock
    end = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    assert between - began < SOON_S and end - between < SOON_S
    assert taken_by_another(make(), start, 19, SOON_S) == "taken"


def test_nor_does_trying_to_take_one(make, start, seize):
    m = make(lock_timeout=30)
    _, let_go = seize(m)
    for timeout in (0, 0.1):
        began = time.monotonic()
        with pytest.raises(shmmap.LockTimeout, match="lock shard"):
            m.lock("a", timeout=timeout).__enter__()
        assert time.monotonic() - began < SOON_S
    let_go()
    with m.lock("a", timeout=0):
        pass


def test_what_is_left_is_freed_though_no_thread_can_be_started(make, start, seize, monkeypatch):
    m = make(lock_timeout=0.05)
    lock = m.lock("a")
    lock.acquire()
    _, let_go = seize(m)

    def refuse(*_: Any) -> int:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", refuse)
        lock.release()
        let_go()
        assert taken_by_another(m, start, "a", 0) == "held"
    m.attachment.locks.freeing._start_again_ns = 0
    with m.lock("another"):  # the next step with a named lock
        pass
    assert taken_by_another(m, start, "a", SOON_S) == "taken"


def test_so_is_a_close_with_other_handles_open(make, start, seize):
    m, other = make(), make(lock_timeout=0.05)
    other.lock("a").acquire()
    _, let_go = seize(m)
    other.close()
    let_go()
    assert taken_by_another(m, start, "a", SOON_S) == "taken"


def test_so_is_a_lock_that_was_taken_and_not_seen(make, start, monkeypatch):
    m = make()

    def unread(*arguments: Any) -> int:
        monkeypatch.undo()
        raise shmmap.LockTimeout("not just now")

    monkeypatch.setattr(lock_table.LockTable, "version_of", unread)
    with pytest.raises(shmmap.LockTimeout):
        m.lock("a", timeout=0).__enter__()
    assert m.attachment.locks.holds == {}
    assert taken_by_another(m, start, "a", SOON_S) == "taken"


def test_the_thread_that_makes_up_ends(make, seize):
    m = make(lock_timeout=0.01)
    held = [m.lock(number) for number in range(5)]
    for lock in held:
        lock.acquire()
    before = len(sys._current_frames())
    _, let_go = seize(m)
    for lock in held:
        lock.release()
    assert m.attachment.locks.count() == 5
    let_go()
    end = time.monotonic() + SOON_S
    while m.attachment.locks.count() or len(sys._current_frames()) > before:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_handle_that_is_collected_holds_no_lock(make, name, start):
    m = make()
    other = shmmap.ShmMap.attach(name)
    other.lock("a").acquire()
    del other
    gc.collect()
    assert taken_by_another(m, start, "a", SOON_S) == "taken"


def test_leases_that_lapse_leave_nothing_behind(make):
    m = make()
    clock = m.attachment.clock
    try:
        for number in range(2000):
            clock.frozen_ns = 10**15 + number * 10**9
            m.lock(number, timeout=0, lease=1.5).acquire()
    finally:
        clock.frozen_ns = -1
    assert len(m.attachment.locks.holds) < 250
    assert len(m.attachment.locks.by_task) <= len(m.attachment.locks.holds)


def test_a_lease_that_was_extended_is_not_over(make):
    m = make()
    clock = m.attachment.clock
    try:
        clock.frozen_ns = 10**15
        lock = m.lock("long", timeout=0, lease=1.5)
        lock.acquire()
        lock.extend(10_000)
        for number in range(1000):
            clock.frozen_ns += 10**9
            m.lock(number, timeout=0, lease=1.5).acquire()
        with pytest.raises(shmmap.Reentered):
            m.lock("long", timeout=0).__enter__()
        assert lock.held
        lock.release()
    finally:
        clock.frozen_ns = -1


def test_a_thread_that_got_the_ident_of_another_is_another(make):
    m = make()
    idents: list[int] = []
    found: list[str] = []

    def take() -> None:
        idents.append(threading.get_ident())
        m.lock("a").acquire()

    def try_it() -> None:
        idents.append(threading.get_ident())
        try:
            m.lock("a", timeout=0.02).__enter__()
        except shmmap.ShmMapError as error:
            found.append(type(error).__name__)

    for work in (take, try_it):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    if idents[0] != idents[1]:
        pytest.skip("the ident was not given again")
    assert found == ["LockTimeout"]


def test_a_child_has_no_token(make, start):
    m = make()
    with m.lock("a") as lock:
        child = start(lambda child: (lock.token, lock.held))
        assert child.result() == (0, False) and lock.token > 0
        child.reap()


# -- names ------------------------------------------------------------------------------------


def test_any_key_is_a_lock_and_each_takes_one_slot(make):
    m = make(size="8MB", shards=1)
    deep: Any = ()
    for _ in range(99):
        deep = (deep,)
    keys = [deep, "k" * 65_000, 1 << 500, *(f"{number} " * 50 for number in range(506))]
    for key in keys:
        m.lock(key, timeout=0).acquire()
        assert m.get_or_set(key, lambda: 5) == 5
    assert m.attachment.locks.count() == len(keys) == 509
    with pytest.raises(shmmap.MapFull, match="510 are held of 510"):
        for key in ("the last", "one more"):
            m.lock(key).acquire()


def test_what_is_no_key_is_no_lock(make):
    m = make()
    for key in ([], {}, (np.zeros(3), 1), ("a", [])):
        with pytest.raises(TypeError):
            m.lock(key)
        with pytest.raises(TypeError):
            m.get_or_set(key, int)


def test_equal_keys_are_one_lock_and_no_lock_is_a_computing(make):
    pair = namedtuple("pair", "one, other")  # a tuple that is another type
    keys = ["a", b"a", 1, (1,), None, (None, "a"), (b"", "a"), name_of(FLIGHT, "a"), ("a", 1)]
    names = [name_of(kind, key) for kind in (LOCK, FLIGHT) for key in keys]
    assert len(set(names)) == len(names) and {len(name) for name in names} == {17}
    for one, other in ((1, 1.0), (1, True), ((None, "a"), pair(None, "a")), (0.0, -0.0)):
        assert name_of(LOCK, one) == name_of(LOCK, other)


def test_where_no_more_locks_can_be_held_values_are_computed_all_the_same(make):
    m = make()
    m.get_or_set("old", lambda: "first", ttl=0.01, stale=60)
    time.sleep(0.05)
    for number in itertools.count():
        try:
            m.lock(number, timeout=0).acquire()
        except shmmap.MapFull:
            break
    assert m.get_or_set("k", lambda: "computed", ttl=60) == "computed" == m["k"]
    assert m.get_or_set("old", lambda: 1 / 0, ttl=0.01, stale=60) == "first"
    with pytest.raises(ZeroDivisionError):
        m.get_or_set("other", lambda: 1 / 0)


# -- what is said -------------------------------------------------------------------------------


def test_a_factory_that_asks_for_its_own_key_is_told_so(make):
    m = make()

    def factory() -> Any:
        return m.get_or_set("r", factory)

    with pytest.raises(shmmap.Reentered, match="computing 'r' already"):
        m.get_or_set("r", factory)
    assert m.attachment.locks.count() == 0


def test_a_computing_has_no_lease_to_be_advised(make, start):
    m = make()

    def work(child: Any) -> None:
        m.get_or_set("k", lambda: (child.tell("go"), child.hear()))

    child = start(work)
    child.hear()
    with pytest.raises(shmmap.LockTimeout, match=f"process {child.pid} ") as caught:
        m.get_or_set("k", int, timeout=0.05)
    assert "lease" not in str(caught.value)


def test_limits_are_named(make):
    m = make()
    for bad in (4e9, float("inf")):
        with pytest.raises(ValueError, match="less than 3e9"):
            m.lock("a", lease=bad)
        with pytest.raises(ValueError, match="less than 3e9"):
            m.lock("a", timeout=bad)


# -- signal handlers ----------------------------------------------------------------------------


def test_a_handler_that_raises_as_a_computing_ends(make):
    """At the first instruction of what frees the lock, where nothing has begun."""
    m = make()
    calls: list[int] = []

    def trace(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code is single_flight.land.__code__:
            calls.append(1)
            sys.settrace(None)
            raise InterruptedError

    sys.settrace(trace)
    try:
        with pytest.raises(InterruptedError):
            m.get_or_set("k", lambda: 1)
    finally:
        sys.settrace(None)
    assert calls == [1] and m.attachment.locks.count() == 0
    del m["k"]
    assert m.get_or_set("k", lambda: 2, timeout=0) == 2


def test_what_a_close_had_left_is_told_by_the_interpreters_own_hook(make, monkeypatch, capsys):
    m = make()
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)

    def refuse(*arguments: Any) -> None:
        raise OSError(errno.EIO, "refused")

    monkeypatch.setattr(shmmap.lifecycle.opening, "release", refuse)
    m.close()
    monkeypatch.undo()
    shmmap.lifecycle.opening.release(m.attachment)
    said = capsys.readouterr().err
    assert "OSError: [Errno 5] refused" in said and "TypeError" not in said
