"""Named locks and permits as a map is replaced: none is left behind in the former one."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest

import shmmap
from shmmap.locks.lock_table import LockTable

from .test_replacing import replaced


@pytest.mark.parametrize("kind", ["lock", "semaphore"])
def test_no_lock_is_left_behind(make, name, start, kind):
    """The new map would not know of it, and its holder and another process would both be inside."""
    m = make(size="1MB", shards=2)
    m["a"] = 1

    def hold(child: Any) -> None:
        mine = shmmap.ShmMap(name)
        with mine.lock("x") if kind == "lock" else mine.semaphore("x", 2):
            child.tell("inside")
            child.hear()
        child.tell("outside")
        child.hear()

    child = start(hold)
    child.hear()
    with pytest.warns(shmmap.MapMismatchWarning, match=f"process {child.pid} has one"):
        shmmap.ShmMap(name, size="2MB", on_mismatch="replace", lock_timeout=0.2).close()
    assert m.size == 10**6 and m.check() == []
    threading.Timer(0.2, child.tell, ("leave",)).start()
    with replaced(name, size="2MB") as new:
        assert child.hear() == "outside"
        assert new.size == 2 * 10**6 and new["a"] == 1
    child.tell("end")
    child.result()


def test_a_lock_that_is_taken_in_the_last_moment_counts(make, name, monkeypatch):
    m = make(size="1MB", shards=2)
    looked = []
    original = LockTable.find_holder

    def see_none_at_first(table: LockTable) -> Any:
        looked.append(original(table))
        return looked[-1] if len(looked) > 1 else None

    monkeypatch.setattr(LockTable, "find_holder", see_none_at_first)
    with m.lock("x"), pytest.warns(shmmap.MapMismatchWarning, match="named lock"):
        shmmap.ShmMap(name, size="2MB", on_mismatch="replace", lock_timeout=0.2).close()
    assert len(looked) > 2 and m.size == 10**6


def test_the_computing_of_a_value_does_not_wait_for_it(make, name):
    m = make(size="1MB", shards=2)

    def compute() -> int:
        replaced(name, size="2MB").close()
        return 5

    assert m.get_or_set("a", compute) == 5
    assert m["a"] == 5 and m.size == 2 * 10**6


def test_a_lock_that_is_taken_too_late_is_one_of_the_new_map(make, name, start):
    """Its taker has seen that the map is there, and is in the lock shard when that is replaced."""
    make(size="1MB", shards=2)

    def take(child: Any) -> bool:
        mine = shmmap.ShmMap(name)
        original = LockTable.try_take

        def stop(*args: Any) -> int:
            LockTable.try_take = original
            os.kill(os.getpid(), signal.SIGSTOP)
            return original(*args)

        LockTable.try_take = stop
        with mine.lock("x"):
            child.tell("inside")
            child.hear()
            return mine.size == 2 * 10**6

    child = start(take)
    child.wait_stopped()
    with replaced(name, size="2MB") as new:
        child.go_on()
        assert child.hear() == "inside"
        assert not new.lock("x").acquire(timeout=0.1)
        child.tell("leave")
        assert child.result()
        with new.lock("x", timeout=2):
            pass
