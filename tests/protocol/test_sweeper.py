"""Sweeping in the background: what starts it, what fails in it, and who else does it."""

from __future__ import annotations

import _thread
import errno
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import sweeper
from shmmap.memory.layout import constants
from shmmap.memory.table import UNITS
from shmmap.system import background

K = constants()
PATIENCE_S = 20.0
FAST = 0.02


def eventually(condition: Callable[[], Any], stopped: Any = None) -> None:
    """Wait for what a sweep does.

    The stopped clock of a map is moved on meanwhile: a sweep that was under way as it was stopped
    notes that it ended then, and without that no other one would ever be due.
    """
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.002)
        if stopped is not None:
            stopped.attachment.clock.frozen_ns += int(FAST * 1e9)


def pass_time(m: Any, seconds: float) -> None:
    """Stop the map's clock at so much later."""
    clock = m.attachment.clock
    clock.frozen_ns = clock.now_ns() + int(seconds * 1e9)


# -- what starts it -----------------------------------------------------------------------------


def test_max_age_alone_cleans_up(make):
    m = make(max_age=5, sweep_interval=FAST)
    m["old"] = 1
    assert "old" in m
    pass_time(m, 6)
    eventually(lambda: list(m) == [], m)
    assert m.stats().aged == 1 and m.stats().expired == 0


def test_max_age_is_seen_to_by_processes_that_only_read(make, start, name):
    m = make(max_age=5, sweep_interval=FAST)
    m["old"] = 1

    def write_and_die(child: Any) -> None:
        m["young"] = 1
        child.tell("written")
        child.hear()

    child = start(write_and_die)
    child.hear()
    child.kill()

    def read(child: Any) -> Any:
        seen = [sorted(m)]  # its first use of the map that it inherited
        pass_time(m, 6)
        eventually(lambda: list(m) == [], m)
        return seen

    assert start(read).result() == [["old", "young"]]


def test_who_attaches_to_a_map_with_max_age_sweeps(make, name, tmp_path):
    m = make(max_age=5, sweep_interval=3000)
    m["old"] = 1
    assert m.attachment.sweeper.start()
    eventually(m.attachment.sweeper.is_running)
    program = (
        "import sys, shmmap, time\n"
        "m = shmmap.ShmMap(sys.argv[1])\n"
        "until = time.monotonic() + 20\n"
        "while not m.attachment.sweeper.is_running() and time.monotonic() < until:\n"
        "    time.sleep(0.002)\n"
        "sys.exit(not m.attachment.sweeper.is_running())\n"
    )
    done = subprocess.run([sys.executable, "-c", program, name], cwd=tmp_path)
    assert done.returncode == 0


def test_maps_without_ttl_and_max_age_have_no_thread(make):
    """Python 3.12 and later warn where a process with threads forks."""
    m = make(sweep_interval=FAST)
    m["a"] = 1
    assert m.get("a") == 1 and m.get("b") is None
    m.incr("n")
    assert not m.attachment.sweeper.is_running() and m.stats().sweep_failures == 0


def test_with_sweep_interval_none_it_is_swept_by_hand(make):
    m = make(max_age=5, ttl=5)
    m["a"] = 1
    pass_time(m, 6)
    assert m.get("a") is None and not m.attachment.sweeper.is_running()
    assert m.sweep().expired == 1


# -- what fails in it ---------------------------------------------------------------------------


@pytest.mark.parametrize("error", [
    OSError(errno.EMFILE, "too many open files"), MemoryError(), shmmap.MapCorrupted("damaged"),
    AttributeError("a bug"), SystemExit(),
])
def test_an_error_is_counted_and_sweeping_goes_on(make, monkeypatch, error):
    m = make(sweep_interval=FAST)
    failures: list[int] = []
    real = m.attachment.worker.clear_dead_rows

    def fail() -> int:
        failures.append(1)
        if len(failures) <= 3:
            raise error
        return int(real())

    monkeypatch.setattr(m.attachment.worker, "clear_dead_rows", fail)
    m.set("a", 1, ttl=5)
    pass_time(m, 6)
    eventually(lambda: m.stats().expired == 1 and m.stats().sweeps > 0, m)
    trouble = m.attachment.sweeper.trouble
    assert trouble.times == m.stats().sweep_failures == 3
    assert trouble.error.startswith(type(error).__name__)


def test_a_sweep_that_failed_lets_others_do_it(make, monkeypatch):
    m = make(sweep_interval=3000, ttl=5)
    monkeypatch.setattr(m.attachment.worker, "clear_dead_rows", lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        m.sweep_if_due()
    assert m.attachment.control.LEASE == 0 and m.attachment.control.SWEPT_NS == 0


def test_what_fails_in_one_shard_does_not_keep_the_others_from_being_swept(make, monkeypatch):
    m = make(shards=8, ttl=5, sweep_interval=3000)
    m.set_many({number: number for number in range(200)})
    mine = m.attachment.mappings
    real = sweeper.sweep_part

    def fail_in_one(handle: Any, unit: int, *rest: int) -> Any:
        if unit == 2 * UNITS // 8:
            raise OSError(errno.EMFILE, "too many open files")
        return real(handle, unit, *rest)

    monkeypatch.setattr(sweeper, "sweep_part", fail_in_one)
    pass_time(m, 6)
    with pytest.raises(OSError, match="too many"):
        m.sweep()
    left = [memoryview(one.buffer).cast("B").cast("Q")[K["S_ENTRIES"] >> 3] for one in mine]
    assert left[2] > 0 and sum(left) == left[2]
    monkeypatch.undo()
    assert m.sweep().expired == left[2]


def test_what_has_moved_meanwhile_is_swept_too(make, monkeypatch):
    m = make(shards=1, sweep_interval=3000)
    m.set("a", 1, ttl=5)
    real = sweeper.sweep_part
    moved = []

    def move_first(handle: Any, unit: int, *rest: int) -> Any:
        if not moved:
            moved.append(unit)
            m.resize(shards=4)
            m.set_many(dict.fromkeys(range(200), 1), ttl=5)
            pass_time(m, 6)
        return real(handle, unit, *rest)

    monkeypatch.setattr(sweeper, "sweep_part", move_first)
    m.sweep()
    mine = m.attachment.mappings
    left = [memoryview(one.buffer).cast("B").cast("Q")[K["S_ENTRIES"] >> 3] for one in mine]
    assert left == [0, 0, 0, 0]


def test_no_free_descriptor_now_and_then(make, start):
    """A process whose descriptors run out again and again still sweeps, and frees what a killed
    process held."""
    m = make(sweep_interval=FAST, shards=2)

    def flap(child: Any) -> Any:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        m.set_many(dict.fromkeys(range(20), 1), ttl=5)  # reserves the deadlines' pages
        for number in range(12):
            resource.setrlimit(resource.RLIMIT_NOFILE, (3 if number % 2 else soft, hard))
            m.set(("n", number), 1, ttl=5)
            time.sleep(0.03)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        child.tell("kill the other one")
        child.hear()
        pass_time(m, 6)
        eventually(lambda: m.stats().expired == 32 and m.attachment.locks.count() == 0,
                   m)
        eventually(lambda: len(m.attachment.worker.rows_in_use()) == 2, m)
        return m.attachment.sweeper.is_running()

    holder = start(lambda child: (m.lock("a").acquire(), child.tell("held"), child.hear()))
    holder.hear()
    flapping = start(flap)
    flapping.hear()
    holder.kill()
    flapping.tell("killed")
    assert flapping.result() is True


def test_a_write_does_not_fail_since_a_thread_cannot_be_started(make, monkeypatch):
    m = make(sweep_interval=FAST, ttl=5)
    tries: list[int] = []

    def refuse(*_: Any) -> int:
        tries.append(1)
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", refuse)
        pass_time(m, 0)  # nothing expires, though all this may take longer than a ttl
        began = time.monotonic()
        for number in range(500):
            m[number] = number
        m.incr("n"), m.touch("n", 5), m.add("x", 1), m.get_or_set("y", lambda: 1)
        most = 1 + (time.monotonic() - began) * 1e9 / background.START_AGAIN_NS
    assert 1 <= len(tries) <= most and len(m) == 503
    assert m.stats().sweep_failures == len(tries)
    assert "can't start new thread" in m.attachment.sweeper.trouble.error
    m.attachment.sweeper._background._start_again_ns = 0
    m["later"] = 1
    pass_time(m, 6)
    eventually(lambda: m.stats().expired == 504, m)


AT_EXIT = """
import atexit, shmmap, sys
m = shmmap.ShmMap(sys.argv[1])
atexit.register(lambda: m.set("last", 1, ttl=600))
"""


def test_the_first_ttl_may_be_set_at_exit(make, name, tmp_path):
    """Python 3.12 and later start no thread then."""
    m = make(sweep_interval=30)
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT, name], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert m["last"] == 1


def test_a_finalizer_that_raises_in_the_sweepers_thread_ends_nothing(make, monkeypatch):
    m = make(sweep_interval=FAST)
    monkeypatch.setattr(sys, "unraisablehook", lambda thrown: None)
    real = m.attachment.worker.clear_dead_rows

    class Loud:
        def __del__(self) -> None:
            raise SystemExit

    def with_garbage() -> int:
        Loud()
        return int(real())

    monkeypatch.setattr(m.attachment.worker, "clear_dead_rows", with_garbage)
    m.set("a", 1, ttl=5)
    for number in (1, 2, 3):
        pass_time(m, 6)
        eventually(lambda number=number: m.stats().sweeps >= number, m)
    assert m.attachment.sweeper.trouble is None


def test_sweeping_starts_anew_in_a_child_where_its_parents_could_not(make, start, monkeypatch):
    m = make(sweep_interval=FAST, ttl=5)
    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", lambda *_: 1 // 0)
        m["a"] = 1

    def work(child: Any) -> Any:
        m["b"] = 1
        pass_time(m, 6)
        eventually(lambda: m.stats().expired == 2, m)
        return m.attachment.sweeper.trouble, os.getpid() == child.pid

    assert start(work).result() == (None, False)


def test_reap_frees_what_the_dead_have_and_nothing_else(make, start):
    """As `child_exit` of gunicorn calls it: their locks and their row, at once."""
    m = make(sweep_interval=None)
    m.set("expired", 1, ttl=0)

    def take(child: Any) -> None:
        m.lock("report").acquire()
        m.semaphore("db", 2).acquire()
        child.tell("has them")
        child.hear()

    child = start(take)
    child.hear()
    assert m.reap() == 0 and m.lock("report").locked() and m.attachment.locks.count() == 2
    child.kill()
    assert m.reap() == 1 and m.attachment.locks.count() == 0
    assert m.stats().workers == (os.getpid(),) and m.reap() == 0
