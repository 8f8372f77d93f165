"""What is left to be undone: by whom, how often, and what it may not keep from ending."""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import threading
from typing import Any

import posix_ipc
import pytest

import shmmap
from shmmap.memory.words import RowWords
from shmmap.system import segment, unfinished
from shmmap.system.unfinished import Steps, Undo

from ..support.leftovers import SHM, objects_of


class Interrupted(Exception):
    """What a handler raises."""


# -- a step that is broken off ------------------------------------------------------------------


def test_a_handler_at_any_line_of_settling_leaves_it_free():
    """Raise at each line of `unfinished` and what it calls, in turn: it can be settled after."""
    for at in range(1, 400):
        done: list[int] = []
        undo = Undo(lambda done=done: done.append(1))
        lines = 0

        def trace(frame: Any, event: str, argument: Any, at: int = at) -> Any:
            nonlocal lines
            if "shmmap" not in frame.f_code.co_filename:
                return None
            lines += event == "line"
            if event == "line" and lines == at:
                raise Interrupted
            return trace

        sys.settrace(trace)
        try:
            undo.settle()
        except Interrupted:
            pass
        finally:
            sys.settrace(None)
        undo.settle()
        assert done
        assert not undo.is_noted()
        if lines < at:
            return
    raise AssertionError("there is no end to it")


def test_one_that_another_thread_is_at_is_free_in_a_forked_child(start):
    inside, go_on = threading.Event(), threading.Event()
    done: list[int] = []

    def step() -> None:
        inside.set()
        go_on.wait(30)
        done.append(os.getpid())

    undo = Undo(step)
    thread = threading.Thread(target=undo.settle)
    thread.start()
    inside.wait(30)

    def settle_here(child: Any) -> list[int]:
        undo.settle()
        return done

    go_on_in_child = start(lambda child: (go_on.set(), settle_here(child))[1])
    assert go_on_in_child.result() == [go_on_in_child.pid]
    undo.settle()  # another thread is at it
    assert done == [] and undo.is_noted()
    go_on.set()
    thread.join()
    assert done == [os.getpid()] and not undo.is_noted()


def test_the_child_of_a_fork_within_a_step_goes_on_with_it_and_does_not_begin_it_again():
    calls: list[Any] = []

    def step() -> None:
        calls.append("begun")
        if len(calls) > 1:
            return
        pid = os.fork()
        if pid == 0:
            undo.settle()  # as a finalizer does that opens a map
            os._exit(len(calls))
        calls.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    undo = Undo(step)
    undo.settle()
    assert calls == ["begun", 1]
    assert not undo.is_noted()


@pytest.mark.parametrize("at", ["totals", "row"])
def test_a_child_forked_as_its_parent_gives_its_row_back_leaves_the_row_alone(
    make, monkeypatch, at
):
    """By the time that the child goes on, another process may have claimed it."""
    m = make()
    m["key"] = 1
    worker = m.attachment.worker
    row, before = worker.row, m.stats().writes
    after_child: list[tuple[int, int]] = []
    real = worker.file.try_lock if at == "totals" else worker._get

    def fork_within(*arguments: Any) -> Any:
        if not after_child:
            after_child.append((0, 0))
            pid = os.fork()
            if pid == 0:
                monkeypatch.undo()
                return real(*arguments)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            monkeypatch.undo()
            after_child[0] = worker._get(row, RowWords.STATE), worker._get(row, RowWords.WRITES)
        return real(*arguments)

    monkeypatch.setattr(*((worker.file, "try_lock") if at == "totals" else (worker, "_get")),
                        fork_within)
    parent = os.getpid()
    try:
        worker.give_back()
    finally:
        if os.getpid() != parent:
            os._exit(0)
    assert after_child == [(1, before)]
    assert m.stats().writes == before  # folded once


def test_steps_go_on_where_they_were_broken_off():
    done: list[int] = []
    troubles = [OSError(5, "refused"), RecursionError(), RecursionError(), MemoryError()]

    def trouble() -> None:
        if troubles:
            raise troubles.pop(0)
        done.append(2)

    steps = Steps([lambda: done.append(1), trouble, trouble, lambda: done.append(3)])
    with pytest.raises(RecursionError):  # the first `trouble` was refused, the second broken off
        steps.run()
    with pytest.raises(MemoryError):
        steps.run()
    assert done == [1]
    with pytest.raises(OSError, match="refused"):
        steps.run()
    assert done == [1, 2, 3]
    steps.run()
    assert done == [1, 2, 3]


def test_a_map_that_is_closed_near_the_limit_of_recursion_harms_no_other(make, name):
    for left in range(2, 24):
        m = shmmap.ShmMap(f"{name}-{left}", size="1MB", shards=2)

        def descend(deep: int, m: Any = m) -> None:
            if deep:
                descend(deep - 1)
            else:
                m.close()

        deep, frame = 0, sys._getframe()
        while frame is not None:
            deep, frame = deep + 1, frame.f_back  # type: ignore[assignment]
        old = sys.getrecursionlimit()
        sys.setrecursionlimit(deep + 120)
        try:
            descend(120 - left)
        except (RecursionError, MemoryError):
            pass
        finally:
            sys.setrecursionlimit(old)
        with shmmap.ShmMap.attach(f"{name}-{left}") as again:
            again["a"] = 1
            again.unlink()
        assert not objects_of(f"{name}-{left}")
    unfinished.finish()
    assert not any(undo.is_due for undo in unfinished._noted.values())


# -- who makes a map ----------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["", "1", "2", "3"])
def test_the_next_maker_removes_what_dead_ones_left(make, name, which):
    (SHM / segment.temporary_name(name, which)[1:]).touch(mode=0o600)
    make()["a"] = 1
    assert not [entry for entry in objects_of(name) if ".new" in entry]


# -- children of multiprocessing -----------------------------------------------------------------



def put_handle(queue: Any, m: Any) -> None:
    """Send things, a handle among them, as the last that a child does."""
    for thing in (1, m, 2):
        queue.put(thing)


def test_an_ephemeral_map_goes_with_a_child_that_has_not_used_it(make, name):
    """Its parent closes first."""
    m = make(ephemeral=True)
    m["a"] = 1
    context = multiprocessing.get_context("fork")
    ready, go_on = context.Event(), context.Event()
    child = context.Process(target=lambda: (ready.set(), go_on.wait(30)))
    child.start()
    try:
        ready.wait(30)
        m.close()
        assert objects_of(name)
        go_on.set()
        child.join(30)
        assert child.exitcode == 0 and not objects_of(name)
    finally:
        child.kill()
        child.join()


def test_what_a_child_queues_last_arrives(make):
    m = make(ephemeral=True)
    m["a"] = 1
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=put_handle, args=(queue, m))
    child.start()
    try:
        assert queue.get(timeout=30) == 1
        with queue.get(timeout=30) as received:
            assert received["a"] == 1
        assert queue.get(timeout=30) == 2
        child.join(30)
    finally:
        child.kill()
        child.join()
        queue.close()


LATE = """
import shmmap, sys
m = shmmap.ShmMap(sys.argv[1], size="1MB", shards=1, ephemeral=True)
import multiprocessing  # after the map was opened
child = multiprocessing.get_context("fork").Process(target=lambda: input())
child.start()
m.close()
"""


def test_also_where_multiprocessing_was_imported_later(name, tmp_path):
    done = subprocess.run([sys.executable, "-c", LATE, name], input="", capture_output=True,
                          text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0 and not objects_of(name), done.stderr


def test_semaphores_are_those_that_the_c_library_makes(make):
    m = make(shards=1)
    label = segment.shard_name(m.name, m.attachment.nonce, 0, 0)
    made = posix_ipc.Semaphore(f"{label}-x", posix_ipc.O_CREX, initial_value=0)
    try:
        theirs = (SHM / segment.semaphore_file(f"{label}-x")[1:]).read_bytes()
        assert (SHM / segment.semaphore_file(label)[1:]).read_bytes()[: len(theirs)] == theirs
    finally:
        made.unlink()
        made.close()


# -- garbage that still uses the map --------------------------------------------------------------

GARBAGE = """
import gc, shmmap, sys
from shmmap.lifecycle import opening

class Owner:  # in a cycle with itself: ended by the collector, which cuts weak references first
    def __init__(self, m):
        self.me, self.m = self, m

    def __del__(self):
        opening.finish_leaving()  # as every opening and closing of any map does
        found.append(self.m.get("key"))
        self.m.close()

found = []
m = shmmap.ShmMap(sys.argv[1])
Owner(shmmap.ShmMap(sys.argv[1], near=8))
m.close()
gc.collect()
print(found, len(opening._attachments))
"""


def test_a_handle_that_is_garbage_keeps_the_map_until_its_finalizers_have_run(
    make, name, tmp_path
):
    make()["key"] = "value"
    ran = subprocess.run(
        [sys.executable, "-c", GARBAGE, name], capture_output=True, text=True, timeout=60,
        cwd=tmp_path,  # else the sources would be taken
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "['value'] 0\n", "")


def test_what_a_handler_opens_in_the_middle_of_an_unlinking_keeps_its_name(make, name):
    """At each other collection of garbage within `unlink`, which removes the name in the end: the
    odd ones with one engine, the even ones with the other one."""
    class Opener:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            opened.append(shmmap.ShmMap(name, "200KB", sweep_interval=None))

    for at in range(1 + (shmmap.ENGINE == "pure"), 400, 2):
        m = shmmap.ShmMap(name, "200KB", sweep_interval=None)
        opened: list[Any] = []
        gc.collect()
        Opener()
        gc.disable()
        gc.set_threshold(gc.get_count()[0] + at, 1000, 1000)
        gc.enable()
        try:
            m.unlink()
        finally:
            gc.set_threshold(100_000, 1000, 1000)
        if not opened:
            gc.collect()
            m.close()
            break
        m.close()
        if opened[0].attachment is not m.attachment:  # else before the map was unlinked
            opened[0]["key"] = at
            with shmmap.ShmMap(name) as other:
                assert other["key"] == at
        for one in opened:
            if not one.closed:
                one.unlink()
                one.close()
        assert objects_of(name) == []
    for one in opened:
        one.unlink()
        one.close()
    assert at > 20
