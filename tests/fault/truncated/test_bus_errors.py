"""SIGBUS beside others: faulthandler, earlier handlers, errors elsewhere, and the pure engine."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import shmmap
from shmmap.memory.layout import PAGE

from .cutting import COMPILED, OPERATIONS, cut, filled, needs_guard, objects, outcome


def lose(name: str) -> str:
    """Make a map, cut it, and tell what its second use says."""
    m = filled(name)
    cut(objects(m)["shard 0"], "nothing")
    outcome(partial(OPERATIONS["get"], m))
    how = outcome(lambda: m.get(1))
    m.unlink()
    m.close()
    return how


def fault_elsewhere(m: Any) -> None:
    """Access a truncated file that no map knows."""
    import mmap

    descriptor = os.memfd_create("elsewhere")
    os.ftruncate(descriptor, PAGE)
    memory = mmap.mmap(descriptor, PAGE)
    os.ftruncate(descriptor, 0)
    memory[0]


@needs_guard
def test_faulthandler_enabled_before(leftovers, start):
    def work(child: Any) -> None:
        with open(os.devnull, "w") as nowhere:
            faulthandler.enable(nowhere)
            child.tell(lose(leftovers))
            fault_elsewhere(None)

    child = start(work)
    assert child.hear() == "cut"
    assert os.waitstatus_to_exitcode(child.reap()) == -signal.SIGBUS


@needs_guard
def test_faulthandler_enabled_later_has_the_last_word(leftovers, start):
    """Documented: it prints its traceback and the process dies, as without us."""
    def work(child: Any) -> None:
        faulthandler.disable()
        m = filled(leftovers)
        with open(os.devnull, "w") as nowhere:
            faulthandler.enable(nowhere)
            cut(objects(m)["shard 0"], "nothing")
            OPERATIONS["get"](m)

    assert os.waitstatus_to_exitcode(start(work).reap()) == -signal.SIGBUS


ENDS: dict[str, Callable[[Any], None]] = {
    "killed": lambda m: os.kill(os.getpid(), signal.SIGBUS),
    "raised": lambda m: signal.raise_signal(signal.SIGBUS),
    "thread": lambda m: signal.pthread_kill(threading.get_ident(), signal.SIGBUS),
    "fault": fault_elsewhere,
}


@pytest.mark.parametrize("how", ENDS)
def test_other_bus_errors_end_the_process_as_ever(make, start, how):
    m = make()

    def work(child: Any) -> None:
        faulthandler.disable()
        m["a"] = 1
        ENDS[how](m)

    assert os.waitstatus_to_exitcode(start(work).reap()) == -signal.SIGBUS
    assert m["a"] == 1


def test_a_sent_signal_reaches_an_earlier_handler(name, start):
    def work(child: Any) -> list[int]:
        seen: list[int] = []
        faulthandler.disable()
        signal.signal(signal.SIGBUS, lambda number, frame: seen.append(number))
        with shmmap.ShmMap.create(name, "150KB", sweep_interval=None) as m:
            os.kill(os.getpid(), signal.SIGBUS)
            m["a"] = 1
            m.unlink()
        signal.signal(signal.SIGBUS, signal.SIG_IGN)
        os.kill(os.getpid(), signal.SIGBUS)
        return seen

    assert start(work).result() == [signal.SIGBUS]


@pytest.mark.skipif(COMPILED, reason="the compiled engine survives")
@pytest.mark.parametrize("what", ["control", "shard 0"])
def test_the_pure_engine_dies_of_it(leftovers, start, what):
    def work(child: Any) -> None:
        faulthandler.disable()
        m = filled(leftovers)
        cut(objects(m)[what], "nothing")
        with contextlib.suppress(Exception):
            OPERATIONS["get"](m)

    assert os.waitstatus_to_exitcode(start(work).reap()) == -signal.SIGBUS
