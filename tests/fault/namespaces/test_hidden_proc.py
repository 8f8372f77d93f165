"""A /proc that hides other users, and a row that says nothing: judged by the lock alone."""

from __future__ import annotations

import os
from typing import Any

import pytest

import shmmap
from shmmap.memory.words import RowWords
from shmmap.system import process

from ...support.children import Child
from ...support.strangers import VICTIM, become, outcome
from .judging import (
    LOCK_TIMEOUT_S,
    assert_taken_over,
    hold,
    mount_proc,
    pretend,
    write_after_death,
    write_and_time,
)


@pytest.mark.parametrize("hidepid", [1, 2])
def test_a_proc_that_hides_other_users(private, name, hidepid):
    """Another user's worker is not seen in /proc: its lock on the liveness file tells."""
    def judge(child: Child, holder: Child) -> Any:
        mount_proc(f"hidepid={hidepid}".encode())
        become(VICTIM)
        there = outcome(lambda: process.start_ticks(holder.pid))
        assert there[0] == "PermissionError" or there == ("", "None"), "not hidden"
        m = shmmap.ShmMap(name, lock_timeout=LOCK_TIMEOUT_S, mode=0o666, owner_uid=0)
        assert outcome(lambda: m.set("b", 1))[0] == "LockTimeout" and m.stats().takeovers == 0
        return write_after_death(child, m)

    def work() -> Any:
        m = shmmap.ShmMap(name, "1MB", shards=1, mode=0o666)
        holder = Child(lambda child: hold(child, m))
        holder.hear()
        child = Child(lambda child: judge(child, holder))
        try:
            assert child.hear() == "not robbed"
            holder.kill()
            child.tell("dead")
            return child.result()
        finally:
            holder.kill()
            child.kill()

    assert_taken_over(private(work))


def test_a_row_of_an_unknown_namespace_is_judged_by_its_lock_alone(shared, start):
    """Where /proc tells nothing a namespace is 0: that must not match another's 0."""
    child = start(lambda child: hold(child, shared))
    row = child.hear()
    worker = shared.attachment.worker
    worker._set(row, RowWords.PID_NAMESPACE, 0, process.this_process())
    worker._namespace = 0
    pretend(shared, row, os.getppid())
    kind, _ = outcome(lambda: shared.set("b", 1))
    assert kind == "LockTimeout" and shared.stats().takeovers == 0
    child.kill()
    assert_taken_over(write_and_time(shared))
