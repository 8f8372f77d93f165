"""What tests of users put in the place of Python's functions costs no map its safety."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest

import shmmap
from shmmap.copies import dumps
from shmmap.system import process, tasks

DAY_NS = 86_400_000_000_000
OPENS: dict[str, Callable[[], Any]] = {
    "other data": mock.mock_open(read_data="key = value\n"),
    "forbidden": mock.Mock(side_effect=AssertionError("no files in tests")),
}


@contextmanager
def held_by_another_thread(m: Any) -> Iterator[None]:
    """Have the named lock "a" held meanwhile."""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with m.lock("a"):
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(30)
        yield
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("put", [
    mock.Mock(side_effect=AssertionError("no sleeping in tests")), mock.Mock(),
], ids=["forbidden", "counted"])
def test_waits_do_not_sleep_by_a_tests_function(make, put):
    m = make(shards=1)
    with held_by_another_thread(m), mock.patch("time.sleep", put):
        assert not tasks.is_cooperative()
        began = time.process_time()
        with pytest.raises(shmmap.LockTimeout):
            m.lock("a", timeout=0.2).__enter__()
        assert time.process_time() - began < 0.15, "it spins"
        m.snapshot()
        m.sweep()
    assert put.call_count == 0


@pytest.mark.parametrize("put", OPENS.values(), ids=OPENS.keys())
def test_a_replaced_open_changes_no_judgement(make, start, put):
    """Not as a map is opened, nor in a forked child, nor of a holder."""
    def use(child: Any) -> Any:
        m["b"] = 1
        with pytest.raises(shmmap.LockTimeout) as caught:
            m.lock("a", timeout=0.1).__enter__()
        return str(caught.value), process.start_ticks(os.getpid())

    with mock.patch("builtins.open", put):
        m = make(shards=1)
        lock = m.lock("a")
        lock.acquire()
        child = start(use)
        text, ticks = child.result()
        child.reap()
        assert lock.held and m.stats().workers == (os.getpid(),)
        assert process.boot_id() != (0, 0) and process.pid_namespace()
    assert f"process {os.getpid()} " in text and ticks
    assert m["b"] == 1


@pytest.mark.parametrize(("name", "put"), [
    ("os.kill", mock.Mock(side_effect=ProcessLookupError)),
    ("os.stat", mock.Mock(side_effect=FileNotFoundError)),
    ("os.path.exists", mock.Mock(return_value=False)),
    ("os.listdir", mock.Mock(return_value=[])),
    ("os.getpid", mock.Mock(return_value=1)),
])
def test_a_replaced_function_makes_nobody_dead(name, put):
    with mock.patch(name, put):
        pid = process.own_pid()
        assert process.exists(pid) and process.is_visible(pid)
        assert process.start_ticks(pid) and not process.is_past_its_program(pid)
        assert process.pid_namespace() and process.effective_uid(pid) == os.geteuid()
    assert pid == os.getpid()
    assert put.call_count == 0


def test_a_dump_under_a_stopped_clock_has_the_true_time(make, tmp_path):
    """Loaded on a day that a test had pretended, its entries would be gone, or live too long."""
    m = make()
    m.set("a", 1, ttl=60)
    true = time.time_ns()
    with mock.patch("time.time_ns", return_value=5), mock.patch("time.time", return_value=5.0):
        m.dump(tmp_path / "a")
        assert abs(dumps.wall_ns() - true) < DAY_NS
    with dumps.DumpReader(tmp_path / "a") as dump:
        assert abs(dump.head.wall_ns - true) < DAY_NS
