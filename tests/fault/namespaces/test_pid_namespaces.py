"""Workers in several pid namespaces over one /dev/shm, as containers with a shared one are.

Pids collide there, and /proc may be one's own, the parent's, or closed. No live worker may be
judged dead from any side, and every dead one must be found. The lock that is held and taken
over is a real one, of shard 0.
"""

from __future__ import annotations

import ast
import os
import signal
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import opening
from shmmap.memory.words import RowWords
from shmmap.system import creation, process
from shmmap.tools import inspection

from ...support.children import Child, die_with_parent
from ...support.strangers import libc, outcome
from .judging import (
    CLONE_NEWPID,
    assert_not_robbed,
    assert_taken_over,
    hold,
    mount_proc,
    open_anew,
    pretend,
    write_after_death,
    write_and_time,
)

PROC = ["own", "parents"]  # which /proc a namespace has


def enter_pid_namespace(child: Child, proc: str) -> None:
    """Go on as the first process of a new pid namespace. The old process tells its pid, as it
    knows it, and waits for its end."""
    told, tell = os.pipe()
    assert libc.unshare(CLONE_NEWPID) == 0
    inner = os.fork()
    if inner:
        child.tell(inner)
        os.write(tell, b".")
        os.waitpid(inner, 0)
        os._exit(0)
    die_with_parent()
    os.read(told, 1)
    assert os.getpid() == 1
    if proc == "own":
        mount_proc()


@pytest.mark.parametrize("proc", PROC)
@pytest.mark.parametrize("how", ["forked", "opened anew"])
def test_a_holder_in_a_namespace_below(shared, start, proc, how):
    """Its pid is 1 there; in the table it has the pid and start time of a process here."""
    def work(child: Child) -> None:
        enter_pid_namespace(child, proc)
        hold(child, shared if how == "forked" else open_anew(shared.name))

    child = start(work)
    inner, row = child.hear(), child.hear()
    assert_not_robbed(shared)
    pretend(shared, row, os.getppid())
    assert_not_robbed(shared)
    os.kill(inner, signal.SIGKILL)
    child.reap()
    assert_taken_over(write_and_time(shared))
    assert shared.check() == []


@pytest.mark.parametrize("proc", PROC)
def test_a_holder_in_a_namespace_below_lets_go(shared, start, proc):
    def work(child: Child) -> None:
        enter_pid_namespace(child, proc)
        hold(child, open_anew(shared.name))

    child = start(work)
    child.hear()
    child.hear()
    child.tell("enough")
    shared["b"] = 2
    assert child.result() is None
    assert shared["b"] == 2 and shared.stats().takeovers == 0


@pytest.mark.parametrize("proc", PROC)
@pytest.mark.parametrize("how", ["forked", "opened anew"])
def test_a_holder_in_the_namespace_above(shared, start, proc, how):
    """Judged from below, where its pid is somebody else or nobody."""
    holder = start(lambda child: hold(child, shared))
    row = holder.hear()

    def judge(child: Child) -> Any:
        enter_pid_namespace(child, proc)
        m = shared if how == "forked" else open_anew(shared.name)
        assert_not_robbed(m)
        pretend(m, row, os.getpid())
        assert_not_robbed(m)
        return write_after_death(child, m)

    child = start(judge)
    child.hear()
    assert child.hear() == "not robbed"
    holder.kill()
    child.tell("dead")
    assert_taken_over(child.result())


@pytest.mark.parametrize("proc", PROC)
def test_two_namespaces_side_by_side(shared, start, proc):
    """Both workers are pid 1, and say that they started at the same tick."""
    def work(child: Child) -> None:
        enter_pid_namespace(child, proc)
        hold(child, open_anew(shared.name))

    def judge(child: Child) -> Any:
        enter_pid_namespace(child, proc)
        m = open_anew(shared.name)
        child.tell(m.attachment.worker.row)
        child.hear()
        assert_not_robbed(m)
        return write_after_death(child, m)

    holder, other = start(work), start(judge)
    inner, row = holder.hear(), holder.hear()
    other.hear()
    other_row = other.hear()
    worker = shared.attachment.worker
    assert worker._get(row, RowWords.PID) == worker._get(other_row, RowWords.PID) == 1
    ticks = worker._get(other_row, RowWords.START_TICKS)
    worker._set(row, RowWords.START_TICKS, ticks, process.this_process())
    other.tell("begin")
    assert other.hear() == "not robbed"
    os.kill(inner, signal.SIGKILL)
    holder.reap()
    other.tell("dead")
    assert_taken_over(other.result())


@pytest.mark.parametrize("proc", PROC)
def test_both_in_one_namespace(shared, start, proc):
    """With the parent's /proc, the pid of the dead is there the pid of somebody who lives."""
    def within(child: Child) -> Any:
        enter_pid_namespace(child, proc)
        m = open_anew(shared.name)
        holder = Child(lambda child: hold(child, m))
        holder.hear()
        live, _ = outcome(lambda: m.set("b", 1))
        robbed = m.stats().takeovers
        holder.kill()
        return live, robbed, write_and_time(m)

    child = start(within)
    child.hear()
    live, robbed, dead = child.result()
    assert (live, robbed) == ("LockTimeout", 0)
    assert_taken_over(dead)


@pytest.mark.parametrize("proc", PROC)
def test_a_child_that_has_its_parents_pid(shared, start, proc):
    """Each is 1 in its own namespace: the first process of a container makes a sandbox."""
    def within(child: Child) -> Any:
        enter_pid_namespace(child, proc)
        m = open_anew(shared.name)
        lock = m.lock("a")
        lock.acquire()
        told, tell = os.pipe()
        assert libc.unshare(CLONE_NEWPID) == 0
        inner = os.fork()
        if not inner:
            try:
                m["b"] = 1
                row, held = m.attachment.worker.row, lock.held
                lock.release()
                found = outcome(lambda: m.lock("a", timeout=0.1).__enter__())[0]
                os.write(tell, repr((os.getpid(), row, held, found)).encode())
            finally:
                os._exit(0)
        os.waitpid(inner, 0)
        return os.getpid(), m.attachment.worker.row, lock.held, os.read(told, 999).decode()

    child = start(within)
    child.hear()
    pid, row, held, inner = child.result()
    assert (pid, held) == (1, True)
    its_pid, its_row, its_held, found = ast.literal_eval(inner)
    assert (its_pid, its_held, found) == (1, False, "LockTimeout")
    assert its_row != row


@pytest.mark.parametrize("proc", PROC)
def test_a_namespace_in_a_namespace(shared, start, proc):
    """The holder is two floors down, one judge one floor, the other here."""
    def innermost(child: Child) -> None:
        enter_pid_namespace(child, proc)
        hold(child, open_anew(shared.name))

    def middle(child: Child) -> Any:
        enter_pid_namespace(child, proc)
        m = open_anew(shared.name)
        holder = Child(innermost)
        inner = holder.hear()
        pretend(m, holder.hear(), os.getpid())
        assert_not_robbed(m)
        child.tell("not robbed")
        child.hear()
        os.kill(inner, signal.SIGKILL)
        holder.reap()
        return write_and_time(m)

    child = start(middle)
    child.hear()
    assert child.hear() == "not robbed"
    assert_not_robbed(shared)
    child.tell("end it")
    assert_taken_over(child.result())


@pytest.mark.parametrize("proc", PROC)
@pytest.mark.parametrize("how", ["forked", "opened anew"])
def test_a_sweep_frees_the_rows_of_the_dead_only(shared, start, proc, how):
    def work(child: Child) -> None:
        enter_pid_namespace(child, proc)
        m = shared if how == "forked" else open_anew(shared.name)
        m["in"] = 1
        child.tell(m.attachment.worker.row)
        child.hear()

    children = [start(work) for _ in range(2)]
    inner, rows = [], []
    for child in children:
        inner.append(child.hear())
        rows.append(child.hear())
    assert len({shared.attachment.worker.row, *rows}) == 3
    assert shared.sweep().dead_workers == 0
    os.kill(inner[0], signal.SIGKILL)
    children[0].reap()
    assert shared.sweep().dead_workers == 1
    left = {row for row, _ in shared.attachment.worker.rows_in_use()}
    assert left == {shared.attachment.worker.row, rows[1]}
    children[1].tell("enough")
    children[1].result()


@pytest.mark.parametrize("proc", PROC)
def test_who_uses_a_map_is_seen_from_either_side(shared, start, proc):
    def work(child: Child) -> Any:
        enter_pid_namespace(child, proc)
        m = open_anew(shared.name)
        child.tell(m.attachment.worker.row)
        child.hear()
        opening._attachments.clear()  # look as one who has not joined
        return [tuple(w) for w in inspection.find_maps(shared.name)[0].workers or ()]

    child = start(work)
    child.hear()
    inner_row = child.hear()
    mine = shared.attachment.worker.row
    seen = {w.row: w for w in inspection.find_maps(shared.name)[0].workers or ()}
    assert sorted(seen) == sorted([mine, inner_row])
    assert seen[mine].namespace_is_ours and not seen[inner_row].namespace_is_ours
    child.tell("look")
    below = {row: is_ours for row, _, is_ours in child.result()}
    assert below.keys() >= {mine} and not below[mine]


@pytest.mark.parametrize("proc", PROC)
def test_a_timeout_names_no_process_of_here(shared, start, proc):
    """The holder is pid 1 there. Here that is another process, which must not be ended for it."""
    def work(child: Child) -> None:
        enter_pid_namespace(child, proc)
        hold(child, open_anew(shared.name))

    child = start(work)
    child.hear()
    child.hear()
    with pytest.raises(shmmap.LockTimeout) as caught:
        shared["b"] = 1
    assert "process 1 " in str(caught.value) and "pid namespace" in str(caught.value)
    assert "kill" not in str(caught.value)


@pytest.mark.parametrize("proc", PROC)
def test_a_creator_in_the_namespace_above_is_waited_for(name, start, proc):
    """The creation lock works across. The kernel does not tell from below who holds it."""
    def create(child: Child) -> None:
        with creation.creation_lock(name):
            child.tell("held")
            child.hear()

    def wait(child: Child) -> Any:
        enter_pid_namespace(child, proc)
        with pytest.raises(shmmap.LockTimeout) as caught, creation.creation_lock(name, 0.1):
            pass
        child.tell(str(caught.value))
        with creation.creation_lock(name, 20.0):
            return "got it"

    creator = start(create)
    assert creator.hear() == "held"
    waiter = start(wait)
    waiter.hear()
    text = waiter.hear()
    assert "process 0" not in text and "pid namespace" in text
    creator.kill()
    assert waiter.result() == "got it"
