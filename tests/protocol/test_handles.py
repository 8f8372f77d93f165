"""Several handles in one process: one row, one descriptor; closing while threads are inside."""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
import time
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import opening
from shmmap.system import record_lock, segment, worker_table


def forget_everything() -> None:
    """In a child: open everything anew, as an unrelated process would."""
    opening._attachments.clear()


def liveness_descriptors(m: Any) -> int:
    """Count this process's descriptors of the map's liveness file."""
    wanted = segment.SHM_DIRECTORY + segment.liveness_name(m.name, m.attachment.nonce)
    found = 0
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(f"/proc/self/fd/{entry}") == wanted
    return found


@pytest.mark.parametrize("ephemeral", [False, True])
def test_one_row_and_one_descriptor_for_all_handles(make, name, start, ephemeral):
    m = make(shards=2, ephemeral=ephemeral)
    m["a"] = 1
    handles = [make() for _ in range(4)] + [pickle.loads(pickle.dumps(m))]
    assert [handle["a"] for handle in handles] == [1] * 5
    assert liveness_descriptors(m) == 1
    assert m.stats().workers == (os.getpid(),)
    locked = start(lambda child: _row_is_locked(m, m.attachment.worker.row)).result()
    assert locked, "opening another handle dropped this process's liveness lock"
    handles[0].close()
    assert m["a"] == 1 and handles[1]["a"] == 1
    assert m.stats().workers == (os.getpid(),)
    for handle in handles:
        handle.close()
    assert m["a"] == 1


def _row_is_locked(m: Any, row: int) -> bool:
    """Ask the kernel, from another process, whether a row's byte is locked."""
    path = segment.SHM_DIRECTORY + segment.liveness_name(m.name, m.attachment.nonce)
    descriptor = os.open(path, os.O_RDWR)
    return record_lock.lock_holder(descriptor, worker_table.row_byte(row)) is not None


def test_close_is_idempotent_and_final(make):
    m = make()
    m["a"] = 1
    other = make()
    m.close()
    m.close()
    assert m.closed and "closed" in repr(m)
    for operation in (
        lambda: m["a"], lambda: m.set("a", 2), lambda: m.get("a"), lambda: "a" in m,
        lambda: len(m), lambda: list(m), lambda: list(m.items()), lambda: m.pop("a"),
        m.popitem, m.clear, m.check, m.stats, m.sweep, m.sweep_if_due, m.unlink, m.repair,
        lambda: m.incr("n"), lambda: m.ttl("a"), lambda: m.touch("a", 1), lambda: m.delete("a"),
        lambda: m.get_versioned("a"), lambda: m.cas("a", 1, 0), lambda: m.get_many(["a"]),
        lambda: m.set_many({"a": 1}), lambda: m.delete_many(["a"]), lambda: m.setdefault("a"),
        lambda: m.update(a=1), lambda: pickle.dumps(m),
    ):
        with pytest.raises(shmmap.MapClosed, match="closed"):
            operation()
    assert other["a"] == 1
    assert issubclass(shmmap.MapClosed, ValueError)


def run_isolated(start: Any, work: Any) -> Any:
    """Run work in a child, where a crash of the interpreter is a failure and no more."""
    child = start(work)
    try:
        return child.result()
    except EOFError:
        raise AssertionError(f"the process died: wait status {child.reap()}") from None


OPERATIONS: dict[str, Any] = {
    "write": lambda m: (m.set("a", bytes(3000)), m.incr("n")),
    "read": lambda m: (m.get("a"), m.get("missing")),
    "iterate": lambda m: list(m.items()),
    "len": len,
    "stats": lambda m: m.stats(),
    "sweep": lambda m: m.sweep(),
    "check": lambda m: m.check(),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_close_while_other_threads_are_inside(name, start, operation):
    def work(child: Any) -> list[str]:
        strange: list[str] = []

        def use(m: Any) -> None:
            try:
                while True:
                    OPERATIONS[operation](m)
                    # CPython's lock is unfair to who waits while another frees it for moments
                    time.sleep(1e-5)
            except shmmap.MapClosed:
                pass
            except BaseException as error:
                strange.append(f"{type(error).__name__}: {error}")

        for _ in range(25):
            m = shmmap.ShmMap(name, "1MB", shards=2, sweep_interval=None)
            m["a"] = bytes(100)
            threads = [threading.Thread(target=use, args=(m,)) for _ in range(3)]
            for thread in threads:
                thread.start()
            time.sleep(0.004)  # let them get inside
            m.close()
            for thread in threads:
                thread.join(10)
                assert not thread.is_alive()
        return strange

    assert run_isolated(start, work) == []


def test_threads_that_open_and_close_at_once(name, start):
    def work(child: Any) -> list[str]:
        strange: list[str] = []

        def use(number: int) -> None:
            try:
                for _ in range(60):
                    with shmmap.ShmMap(name, "256KB", shards=1, sweep_interval=None) as m:
                        m.incr("n")
            except BaseException as error:
                strange.append(f"{type(error).__name__}: {error}")

        threads = [threading.Thread(target=use, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
        return strange

    assert run_isolated(start, work) == []
    with shmmap.ShmMap.attach(name) as m:
        assert m["n"] == 240 and m.check() == []


def test_a_dropped_handle_gives_its_row_back(make, start):
    m = make(shards=2)

    def work(child: Any) -> None:
        forget_everything()
        handle = shmmap.ShmMap.attach(m.name)
        handle["a"] = 1
        child.tell("attached")
        child.hear()
        del handle
        child.tell("dropped")
        child.hear()

    child = start(work)
    child.hear()
    assert child.pid in m.stats().workers
    child.tell("drop it")
    child.hear()
    assert child.pid not in m.stats().workers
    child.tell("end")
    child.result()


def test_what_is_left_of_a_handle_harms_no_other(make):
    """Somebody keeps vars() of one (a debugger, locals of a traceback); another gets its id."""
    m = make(shards=1)
    kept: list[Any] = []
    for _ in range(200):
        gone = shmmap.ShmMap(m.name)
        was = id(gone)
        kept.append(vars(gone))
        del gone
        other = shmmap.ShmMap(m.name)
        if id(other) == was:
            break
    assert id(other) == was
    m.close()
    lock = other.lock("a")
    lock.acquire()
    kept.clear()
    other["a"] = 1
    assert other["a"] == 1 and lock.held
    lock.release()
    other.unlink()
    other.close()
