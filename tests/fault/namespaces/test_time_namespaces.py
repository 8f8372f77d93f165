"""Holders and pids judged from another time namespace: no offset of clocks makes anybody dead."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shmmap.memory.words import RowWords
from shmmap.system import process
from shmmap.tools import inspection

from ...support.children import Child
from ...support.shard0 import GOT_IT, lock_of, token
from ...support.strangers import libc, outcome
from .judging import CLONE_NEWTIME, assert_not_robbed, assert_taken_over, open_anew, write_and_time

OFFSETS = ["0 0", "1000 0", "1000 123456789", "-{} 0", "0 5000000"]  # {}: the time since boot


def enter_time_namespace(offset: str) -> None:
    """Have children begin in a new time namespace, whose boot clock is set off."""
    assert libc.unshare(CLONE_NEWTIME) == 0
    since_boot = int(time.clock_gettime(time.CLOCK_BOOTTIME))
    Path("/proc/self/timens_offsets").write_text(f"boottime {offset.format(since_boot)}\n")


def in_time_namespace(offset: str, work: Callable[[Child], Any]) -> Callable[[Child], Any]:
    """Have work done by a child of a new time namespace; the parent stands for it."""
    def within(child: Child) -> Any:
        enter_time_namespace(offset)
        inner = Child(work)
        try:
            return inner.result()
        finally:
            inner.kill()

    return within


def lose_descriptors(child: Child, m: Any) -> None:
    """Take shard 0's lock and close all descriptors, as some daemonizers do."""
    assert lock_of(m).lock(token(m), 10**9) in GOT_IT
    os.close(m.attachment.worker.descriptor)
    child.tell("held")
    child.hear()


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_holder_without_descriptors_judged_from_another_time_namespace(shared, start, offset):
    """/proc shows the start of a process by the clock of the process that looks."""
    def judge(child: Child) -> Any:
        m = open_anew(shared.name)
        seen = {one.row for one in inspection.find_maps(shared.name)[0].workers or ()}
        return outcome(lambda: m.set("b", 1))[0], m.stats().takeovers, seen

    holder = start(lambda child: lose_descriptors(child, open_anew(shared.name)))
    assert holder.hear() == "held"
    row = shared.attachment.worker.row + 1
    error, takeovers, seen = start(in_time_namespace(offset, judge)).result()
    assert (error, takeovers) == ("LockTimeout", 0) and row in seen
    holder.kill()
    assert_taken_over(start(in_time_namespace(offset, write_judged(shared))).result())


def write_judged(shared: Any) -> Callable[[Child], Any]:
    return lambda child: write_and_time(open_anew(shared.name))


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_holder_without_descriptors_of_another_time_namespace(shared, start, offset):
    def hold_there(child: Child) -> Any:
        enter_time_namespace(offset)
        inner = Child(lambda child: lose_descriptors(child, open_anew(shared.name)))
        child.tell(inner.hear())
        child.hear()
        inner.kill()
        return "dead"

    child = start(hold_there)
    assert child.hear() == "held"
    assert_not_robbed(shared)
    child.tell("end it")
    assert child.result() == "dead"
    assert_taken_over(write_and_time(shared))


def test_a_pid_that_is_used_again_is_told_from_another_time_namespace(shared, start):
    """By the start time, which is not taken for right whatever it is."""
    def judge(child: Child) -> Any:
        return process.start_ticks(holder.pid), write_and_time(open_anew(shared.name))

    holder = start(lambda child: lose_descriptors(child, open_anew(shared.name)))
    assert holder.hear() == "held"
    worker, row = shared.attachment.worker, shared.attachment.worker.row + 1
    ticks = worker._get(row, RowWords.START_TICKS)
    worker._set(row, RowWords.START_TICKS, ticks - 2, process.this_process())
    found, after = start(in_time_namespace("1000 0", judge)).result()
    assert found == ticks == process.start_ticks(holder.pid)
    assert_taken_over(after)


def test_an_offset_that_cannot_be_told_proves_no_death(shared, start):
    """A process that has made a time namespace for its children reads theirs only."""
    def judge(child: Child) -> Any:
        enter_time_namespace("1000 0")
        inner = Child(unshare_again)
        return inner.result()

    def unshare_again(child: Child) -> Any:
        assert libc.unshare(CLONE_NEWTIME) == 0
        assert outcome(lambda: process.start_ticks(holder.pid))[0] == "OSError"
        m = open_anew(shared.name)
        return outcome(lambda: m.set("b", 1))[0], m.stats().takeovers

    holder = start(lambda child: lose_descriptors(child, open_anew(shared.name)))
    assert holder.hear() == "held"
    assert start(judge).result() == ("LockTimeout", 0)
