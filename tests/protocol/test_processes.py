"""All ways to make a process: multiprocessing, pools, forks with and without hooks, pickles."""

from __future__ import annotations

import concurrent.futures
import ctypes
import multiprocessing
import os
import pickle
import threading
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import opening
from shmmap.system import process

WAYS = ("fork", "spawn", "forkserver")


def raw_fork() -> int:
    """Fork without any of Python's hooks, the GIL held."""
    return int(ctypes.PyDLL(None).fork())


def forget_everything() -> None:
    """In a child: open everything anew, as an unrelated process would."""
    opening._attachments.clear()


# -- multiprocessing: these run in children, by name ------------------------------------


def count_up(m: Any, times: int) -> None:
    """Count in a child process."""
    for _ in range(times):
        m.incr("n")


def count_in_threads(m: Any, times: int) -> None:
    """Count in three threads of a child process."""
    threads = [threading.Thread(target=count_up, args=(m, times)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


_pool_map: Any = None


def set_pool_map(m: Any) -> None:
    """Initialize a pool's worker with the map."""
    global _pool_map
    _pool_map = m


def count_for_pool(times: int) -> int:
    """Count in a pool's worker, in the map that its initializer got."""
    count_up(_pool_map, times)
    return os.getpid()


def count_with_argument(m: Any, times: int) -> int:
    """Count in a pool's worker, in a map that came as an argument."""
    count_up(m, times)
    return os.getpid()


@pytest.fixture
def shared(make, monkeypatch):
    """A map, where spawned children find this module."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(
        [os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")]
    ))
    return make(shards=2)


def importable(function: Any) -> Any:
    """Return a function of this file as the module `test_processes` has it, so that children
    that were not forked can import it."""
    import importlib
    import sys

    folder = os.path.dirname(__file__)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return getattr(importlib.import_module("test_processes"), function.__name__)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("work", [count_up, count_in_threads])
def test_multiprocessing(shared, way, work):
    m = shared
    m["n"] = 0
    context = multiprocessing.get_context(way)
    workers = [context.Process(target=importable(work), args=(m, 200)) for _ in range(3)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(40)
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.kill()
                worker.join()
    assert m["n"] == 600 * (3 if work is count_in_threads else 1)
    assert m.stats().workers == (os.getpid(),), "their rows were not given back"
    assert m.stats().writes == m["n"] + 1, "their counters were not folded into the totals"
    assert m.check() == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("through", ["argument", "initializer"])
def test_process_pool(shared, way, through):
    m = shared
    context = multiprocessing.get_context(way)
    options: dict[str, Any] = {}
    if through == "initializer":
        options = {"initializer": importable(set_pool_map), "initargs": (m,)}
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context, **options) as pool:
        if through == "initializer":
            futures = [pool.submit(importable(count_for_pool), 100) for _ in range(6)]
        else:
            futures = [pool.submit(importable(count_with_argument), m, 100) for _ in range(6)]
        pids = {future.result(timeout=40) for future in futures}
    assert os.getpid() not in pids
    assert m["n"] == 600 and m.check() == []


# -- who this process is -----------------------------------------------------------------


@pytest.mark.parametrize("when", ["opened", "used"])
def test_a_pretended_pid_costs_no_lock(make, start, monkeypatch, when):
    """Tests of users replace os.getpid, here by the pid of a process that lives."""
    def takes(child: Any) -> Any:
        forget_everything()
        child.hear()
        with pytest.raises(shmmap.LockTimeout) as caught:
            shmmap.ShmMap(m.name).lock("a", timeout=0.2).__enter__()
        return str(caught.value)

    other = start(lambda child: child.hear())
    if when == "used":
        m = make(shards=1)
        m["a"] = 1
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: other.pid)
        if when == "opened":
            m = make(shards=1)
        m["a"] = m.get_or_set("b", lambda: 1)
        lock = m.lock("a")
        lock.acquire()
        make().close()
        assert lock.held
    assert lock.held and m.stats().workers == (os.getpid(),)
    child = start(takes)
    child.tell("take it")
    assert f"process {os.getpid()} " in child.result()
    lock.release()


@pytest.mark.parametrize("fork", [os.fork, raw_fork], ids=["os.fork", "raw fork"])
def test_each_process_of_a_line_has_its_number(start, fork):
    mine = process.this_process()

    def work(child: Any) -> tuple[int, int]:
        first = process.this_process()
        inner = start(lambda _: (first, process.this_process()), fork)
        return inner.result()

    child, grandchild = start(work, fork).result()
    assert len({mine, child, grandchild}) == 3
    assert process.this_process() == mine


# -- forks -------------------------------------------------------------------------------


@pytest.mark.parametrize("fork", [os.fork, raw_fork], ids=["os.fork", "raw fork"])
def test_a_fork_gets_a_row_of_its_own(make, start, fork):
    m = make(shards=2)
    m["a"] = 1
    mine = m.attachment.worker.row

    def work(child: Any) -> tuple[int, tuple[int, ...]]:
        assert m["a"] == 1
        m["b"] = os.getpid()
        child.tell((m.attachment.worker.row, m.stats().workers))
        child.hear()
        return m["c"], m.stats().workers

    first, second = start(work, fork), start(work, fork)
    rows = set()
    for child in (first, second):
        row, workers = child.hear()
        rows.add(row)
        assert child.pid in workers and os.getpid() in workers
    assert len(rows | {mine}) == 3
    assert set(m.stats().workers) == {os.getpid(), first.pid, second.pid}
    m["c"] = 5
    for child in (first, second):
        child.tell("go on")
        assert child.result()[0] == 5
        child.reap()
    assert m.stats().workers == (os.getpid(),)
    assert m.sweep().dead_workers == 2 and m.check() == []


@pytest.mark.parametrize("fork", [os.fork, raw_fork], ids=["os.fork", "raw fork"])
def test_forks_of_forks(make, start, fork):
    m = make(shards=2)

    def work(child: Any) -> int:
        m.incr("n")
        rows = [m.attachment.worker.row]
        pid = fork()
        if pid == 0:
            m.incr("n")
            m["grandchild"] = m.attachment.worker.row
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        m.incr("n")
        return rows[0]

    row = start(work, fork).result()
    assert m["n"] == 3
    assert len({m["grandchild"], row, m.attachment.worker.row}) == 3


def test_fork_while_other_threads_are_inside(make, start):
    """Whatever a parent's thread held at the fork is not the child's to wait for.

    (Not for a raw fork: with threads, that leaves CPython itself locked.)
    """
    m = make(shards=1, lock_timeout=10)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            m.incr("n")
            m["big"] = bytes(5000)

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for i in range(15):
            child = start(lambda child, i=i: (m.set(f"k{i}", i), m[f"k{i}"], m.close())[1])
            assert child.result() == i
            child.reap()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert [m[f"k{i}"] for i in range(15)] == list(range(15))
    assert m.check() == []


def test_a_child_that_closes_takes_nothing_from_its_parent(make, start):
    m = make(shards=2, ephemeral=True)
    m["a"] = 1
    for uses_it in (True, False):
        child = start(lambda child, uses_it=uses_it: (uses_it and m["a"], m.close())[1])
        assert child.result() is None
        child.reap()
        m.incr("a")
    assert m["a"] == 3 and m.stats().workers == (os.getpid(),)

    def sees_parent(child: Any) -> tuple[int, ...]:
        return m.stats().workers if m["a"] else ()

    assert os.getpid() in start(sees_parent).result()


# -- pickles -----------------------------------------------------------------------------


def test_a_pickle_attaches_to_the_same_map(make, start):
    m = make(shards=2, lock_timeout=1.25)
    m["a"] = [1]
    data = pickle.dumps(m)
    again = pickle.loads(data)
    assert again["a"] == [1] and again is not m and again._lock_timeout == 1.25
    again.close()

    def elsewhere(child: Any) -> Any:
        forget_everything()
        return pickle.loads(data)["a"]

    assert start(elsewhere).result() == [1]


@pytest.mark.parametrize("on_unlinked", ["raise", "reopen"])
def test_a_pickle_of_an_unlinked_map(make, name, on_unlinked):
    """It makes no map, and uses another one only if its handle is one that reopens."""
    m = make(on_unlinked=on_unlinked)
    data = pickle.dumps(m)
    m.unlink()
    m.close()
    with pytest.raises(shmmap.MapNotFound, match="gone"):
        pickle.loads(data)
    with shmmap.ShmMap.create(name, "1MB") as successor:
        successor["a"] = 1
        if on_unlinked == "raise":
            with pytest.raises(shmmap.MapNotFound, match="anew"):
                pickle.loads(data)
        else:
            with pickle.loads(data) as found:
                assert found["a"] == 1
        successor.unlink()
    m2 = shmmap.ShmMap.create(name, "1MB")
    m2.close()
    with pytest.raises(shmmap.MapClosed):
        pickle.dumps(m2)


def test_what_is_listed_is_not_gone(monkeypatch):
    """Be its file missing once; else its lock would be taken over as a dead holder's."""
    def missing(path: str) -> Any:
        raise FileNotFoundError

    monkeypatch.setattr(process, "_stat", missing)
    assert not process.is_past_its_program(os.getpid())
