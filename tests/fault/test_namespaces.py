"""Workers in several pid namespaces over one /dev/shm, as containers with a shared one are.

Pids collide there, and /proc may be one's own, the parent's, or closed. No live worker may be
judged dead from any side, and every dead one must be found. The lock that is held and taken
over is a real one, of shard 0.
"""

from __future__ import annotations

import ast
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import opening
from shmmap.system import creation, process
from shmmap.tools import inspection

from ..support.children import Child
from ..support.shard0 import GOT_IT, lock_of, token
from ..support.strangers import VICTIM, become, enter_own_mounts, libc, outcome

AT_ONCE_S = 1.0  # on a machine that has much else to do
LOCK_TIMEOUT_S = 0.15
PROC = ["own", "parents"]  # which /proc a namespace has
_CLONE_NEWPID, _CLONE_NEWTIME = 0x20000000, 0x80
_PR_SET_PDEATHSIG = 1


@pytest.fixture(scope="module", autouse=True)
def permitted() -> None:
    """Skip where this user may not make namespaces."""
    child = Child(lambda child: libc.unshare(_CLONE_NEWPID) == 0 and enter_own_mounts())
    try:
        if not child.result():
            pytest.skip("needs the right to make pid and mount namespaces (CAP_SYS_ADMIN)")
    finally:
        child.kill()


@pytest.fixture
def shared(make: Callable[..., Any]) -> Any:
    """A map of one shard that all sides use."""
    m = make(shards=1, lock_timeout=LOCK_TIMEOUT_S)
    m["a"] = 1
    return m


def mount_proc(options: bytes = b"") -> None:
    """See the processes of one's own pid namespace in /proc."""
    assert enter_own_mounts()
    assert libc.mount(b"proc", b"/proc", b"proc", 0, options) == 0


def enter_pid_namespace(child: Child, proc: str) -> None:
    """Go on as the first process of a new pid namespace. The old process tells its pid, as it
    knows it, and waits for its end."""
    told, tell = os.pipe()
    assert libc.unshare(_CLONE_NEWPID) == 0
    inner = os.fork()
    if inner:
        child.tell(inner)
        os.write(tell, b".")
        os.waitpid(inner, 0)
        os._exit(0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.read(told, 1)
    assert os.getpid() == 1
    if proc == "own":
        mount_proc()


def open_anew(name: str) -> Any:
    """In a child: open the map as an unrelated process would."""
    opening._attachments.clear()
    return shmmap.ShmMap(name, lock_timeout=LOCK_TIMEOUT_S)


def hold(child: Child, m: Any) -> None:
    """Take shard 0's lock, tell in which row, and keep it until told, or for ever."""
    me = token(m)
    assert lock_of(m).lock(me, 10**9) in GOT_IT
    child.tell(m.attachment.worker.row)
    child.hear()
    lock_of(m).unlock()


def pretend(m: Any, row: int, pid: int) -> None:
    """Have a row tell the pid and the start time of a process that lives here."""
    worker, mine = m.attachment.worker, process.this_process()
    worker._set(row, "PID", pid, mine)
    worker._set(row, "START_TICKS", process.start_ticks(pid) or 0, mine)


def assert_not_robbed(m: Any) -> None:
    """A writer waits for a live holder."""
    kind, text = outcome(lambda: m.set("b", 1))
    assert kind == "LockTimeout" and m.stats().takeovers == 0, (kind, text)


def write_and_time(m: Any) -> tuple[float, str, int]:
    """Write once; give the seconds it took, its error, and how many locks were taken over."""
    started = time.monotonic()
    error, _ = outcome(lambda: m.set("b", 1))
    return time.monotonic() - started, error, m.stats().takeovers


def write_after_death(child: Child, m: Any) -> tuple[float, str, int]:
    """Say that nobody was robbed; once the holder is dead, write."""
    child.tell("not robbed")
    child.hear()
    return write_and_time(m)


def assert_taken_over(found: tuple[float, str, int]) -> None:
    """The next writer took the dead holder's lock over at once."""
    seconds, error, takeovers = found
    assert (error, takeovers) == ("", 1)
    assert seconds < AT_ONCE_S


# -- from either side -----------------------------------------------------------------------


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
    assert worker._get(row, "PID") == worker._get(other_row, "PID") == 1
    worker._set(row, "START_TICKS", worker._get(other_row, "START_TICKS"), process.this_process())
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
        assert libc.unshare(_CLONE_NEWPID) == 0
        inner = os.fork()
        if not inner:
            try:
                m["b"] = 1
                row, held = m.attachment.worker.row, lock.held
                lock.release()
                found = outcome(lambda: m.lock("a", timeout=0.1).acquire())[0]
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


# -- rows, sweeps, and what is shown ---------------------------------------------------------


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


# -- other time namespaces --------------------------------------------------------------------

OFFSETS = ["0 0", "1000 0", "1000 123456789", "-{} 0", "0 5000000"]  # {}: the time since boot


def enter_time_namespace(offset: str) -> None:
    """Have children begin in a new time namespace, whose boot clock is set off."""
    assert libc.unshare(_CLONE_NEWTIME) == 0
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
    ticks = worker._get(row, "START_TICKS")
    worker._set(row, "START_TICKS", ticks - 2, process.this_process())
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
        assert libc.unshare(_CLONE_NEWTIME) == 0
        assert outcome(lambda: process.start_ticks(holder.pid))[0] == "OSError"
        m = open_anew(shared.name)
        return outcome(lambda: m.set("b", 1))[0], m.stats().takeovers

    holder = start(lambda child: lose_descriptors(child, open_anew(shared.name)))
    assert holder.hear() == "held"
    assert start(judge).result() == ("LockTimeout", 0)


# -- a /proc that hides others ---------------------------------------------------------------


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
    worker._set(row, "PID_NAMESPACE", 0, process.this_process())
    worker._namespace = 0
    pretend(shared, row, os.getppid())
    kind, _ = outcome(lambda: shared.set("b", 1))
    assert kind == "LockTimeout" and shared.stats().takeovers == 0
    child.kill()
    assert_taken_over(write_and_time(shared))
