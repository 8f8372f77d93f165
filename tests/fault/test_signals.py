"""Storms of signals, real ones, at random moments of a process's work with maps.

Each storm ends with the process alive and idle: so whatever it still held, nobody could take
over from it. Every access, one by one, is for the explorer; here is chance, and both engines.
"""

from __future__ import annotations

import faulthandler
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import opening
from shmmap.system import creation

from ..support.children import Child
from ..support.leftovers import SHM

AT_ONCE_S = 1.0  # on a machine that has much else to do
STORM_S = 10.0  # at most: on a machine that has much else to do
KEYS = 9


class Custom(Exception):
    """What a handler of the user's may raise, beside KeyboardInterrupt and SystemExit."""


RAISED = (Custom, KeyboardInterrupt, SystemExit)


def storm(
    operations: Sequence[Callable[[], Any]], seed: int, longest_s: float, times: int
) -> tuple[int, list[str]]:
    """Run operations at random while a timer's handler raises so many times; return how often it
    did, and what else was raised."""
    rng = random.Random(seed)
    sys.unraisablehook = lambda unraisable: None  # a handler may well raise in a finalizer
    raised, strange, armed = 0, [], False

    def handle(number: int, frame: Any) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise rng.choice(RAISED)("from a handler")

    def work() -> None:  # a function: so that all of the loop is inside the `try` below
        while armed:
            rng.choice(operations)()

    signal.signal(signal.SIGALRM, handle)
    end = time.monotonic() + STORM_S
    while raised < times and time.monotonic() < end:
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(20e-6, longest_s))
            work()
        except RAISED:
            raised += 1
        except Exception as error:
            armed = False
            strange.append(f"{type(error).__name__}: {error}")
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    return raised, strange


def value(number: int) -> bytes:
    """A value whose bytes all tell which it is."""
    return bytes([number & 255]) * (number * 37 % 3000)


def is_whole(found: Any) -> bool:
    """Tell whether a value is one that was written."""
    return found in (None, b"", 1) or len(set(found)) == 1


class Work:
    """Operations on a map, with a count of the increments that were acknowledged."""

    def __init__(self, m: Any, seed: int) -> None:
        self.m = m
        self.rng = random.Random(seed)
        self.acknowledged = 0
        self.problems: list[str] = []

    def key(self) -> str:
        return f"k{self.rng.randrange(KEYS)}"

    def count(self) -> None:
        self.m.incr("n")
        self.acknowledged += 1

    def change(self) -> None:
        key = self.key()
        found, version = self.m.get_versioned(key)
        self.m.cas(key, found or b"", version)

    def look(self) -> None:
        self.problems += self.m.check()

    def torn(self) -> None:
        self.problems += [k for k, found in self.m.items() if k != "n" and not is_whole(found)]

    def operations(self) -> list[Callable[[], Any]]:
        m, rng, key = self.m, self.rng, self.key
        return [
            lambda: m.set(key(), value(rng.randrange(999))), lambda: m.get(key()), self.count,
            lambda: m.set(key(), value(rng.randrange(99)), ttl=99), lambda: m.delete(key()),
            lambda: m.pop(key(), None), lambda: m.touch(key(), 99), self.change,
            lambda: m.add(key(), b""), lambda: m.setdefault(key(), 1),
            lambda: m.set_many({key(): value(i) for i in range(3)}), lambda: key() in m,
            lambda: len(m), lambda: m.get_many(["k1", "k2"]), m.stats, m.sweep, self.look,
            self.torn, lambda: m.replace(key(), b""), m.repair,
        ]


@pytest.mark.parametrize("seed", range(3))
def test_a_storm_over_operations(make, start, seed):
    m = make(size="256KB", shards=1, lock_timeout=1.0)
    m["n"] = 0

    def work(child: Child) -> None:
        working = Work(m, seed)
        raised, strange = storm(working.operations(), seed, 8e-4, 800)
        child.tell((raised, strange, working.problems, working.acknowledged))
        child.hear()
        began = time.monotonic()
        m.close()
        child.tell(time.monotonic() - began)

    child = start(work)
    raised, strange, problems, acknowledged = child.hear()
    began = time.monotonic()
    m["after"] = 1
    seconds = time.monotonic() - began
    assert seconds < AT_ONCE_S and m.stats().takeovers == 0, f"seed {seed}: {seconds:.2f} s"
    assert (strange, problems, m.check()) == ([], [], []), f"seed {seed}"
    assert acknowledged <= m["n"] <= acknowledged + raised, f"seed {seed}"
    assert raised == 800, f"seed {seed}: only {raised} signals"
    child.tell("close")
    assert child.hear() < 0.5, f"seed {seed}: a broken-off operation still counts as in flight"
    assert child.result() is None


@pytest.mark.parametrize("seed", range(3))
def test_a_storm_over_openings(name, start, seed):
    """Whatever step of opening, closing and unlinking is broken off: others open at once, this
    process can go on, and its exit gives everything back."""
    def use() -> None:
        with shmmap.ShmMap(name, "177KB", shards=1, lock_timeout=1) as m:
            m["a"] = 1

    def drop() -> None:
        shmmap.ShmMap(name, "177KB", lock_timeout=1)

    def replace() -> None:
        m = shmmap.ShmMap(f"{name}-b", "177KB", shards=1, lock_timeout=1)
        m["a"] = 1
        m.unlink()

    def work(child: Child) -> Any:
        child.tell(storm([use, drop, replace], seed, 4e-3, 150))
        child.hear()
        use()
        replace()
        assert not any(mutex.locked() for mutex in creation._mutexes.values())
        opening.leave_all()

    child = start(work)
    raised, strange = child.hear()
    assert strange == [] and raised == 150, (seed, strange, raised)
    for number in range(2):
        began = time.monotonic()
        with shmmap.ShmMap(f"{name}-b" if number else name, "177KB", shards=1) as m:
            m["after"] = 1
            assert time.monotonic() - began < AT_ONCE_S and m.check() == [], f"seed {seed}"
            if number:
                m.unlink()
    child.tell("go on")
    assert child.result() is None
    child.reap()
    with shmmap.ShmMap(name) as m:
        assert [row for row, _ in m.attachment.worker.rows_in_use()] == [m.attachment.worker.row]
        m.unlink()
    # A handler may raise between the opening of a file and the noting of its descriptor: then the
    # control segment in the making stays, and the next process to make that name removes it.
    for one in (name, f"{name}-b"):
        shmmap.ShmMap(one, "177KB", shards=1).unlink()
    ours = tuple(f"{kind}shmmap.{one}" for kind in ("", "sem.") for one in (f"{name}.", f"{name}-"))
    assert [entry for entry in os.listdir(SHM) if entry.startswith(ours)] == [], f"seed {seed}"


def test_a_storm_over_a_waiting_process(make, start):
    """Signals reach a writer that waits for the lock, and it holds nothing afterwards."""
    m = make(shards=1, lock_timeout=5.0)

    def hold(child: Child) -> None:
        m["big"] = bytes(100_000)
        while not child._pipe.poll(0):
            m["big"] = bytes(100_000)

    def work(child: Child) -> Any:
        raised, strange = storm([lambda: m.set("a", 1), lambda: m.incr("n")], 1, 2e-3, 300)
        child.tell((raised, strange))
        child.hear()

    writer, child = start(hold), start(work)
    raised, strange = child.hear()
    assert strange == [] and raised == 300
    writer.tell("enough")
    writer.result()
    began = time.monotonic()
    m["after"] = 1
    assert time.monotonic() - began < AT_ONCE_S and m.check() == []
    assert m.stats().takeovers == 0
    child.tell("enough")
    child.result()


# -- faulthandler ------------------------------------------------------------------------------
# It prints stacks from a C signal handler, or from a thread without the GIL, while they change:
# CPython itself crashes of that now and then, with or without us (3.11 to 3.13, a loop of plain
# functions). So what is asked here: whatever it does, the map and the others stay whole.

CRASHES = (-signal.SIGSEGV, -signal.SIGBUS)


def work_on(m: Any, seconds: float) -> list[str]:
    """Work for a while; return what was wrong."""
    working = Work(m, 1)
    end = time.monotonic() + seconds
    operations = working.operations()
    operations.remove(m.sweep)  # a lock refused to it: the C handler loses its errno
    while time.monotonic() < end:
        for operation in operations:
            operation()
    return working.problems


def assert_whole(m: Any, seed: int = 0) -> None:
    """The next writer goes on at once, and nothing is torn."""
    began = time.monotonic()
    m["after"] = 1
    assert time.monotonic() - began < AT_ONCE_S, f"seed {seed}"
    assert m.check() == [] and m["n"] > 0, f"seed {seed}"
    assert all(is_whole(found) for key, found in m.items() if key != "n"), f"seed {seed}"


def test_faulthandler_on_a_signal(make, start):
    m = make(size="256KB", shards=1, lock_timeout=5.0)
    m["n"] = 0

    def work(child: Child) -> None:
        with open(os.devnull, "w") as nowhere:
            faulthandler.register(signal.SIGUSR1, file=nowhere, all_threads=True, chain=False)
            child.tell("ready")
            problems = work_on(m, 0.5)
            faulthandler.unregister(signal.SIGUSR1)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        assert problems == []

    child = start(work)
    child.hear()
    end = time.monotonic() + 0.4
    while time.monotonic() < end:
        child.signal(signal.SIGUSR1)
        time.sleep(0.0003)
    how = os.waitstatus_to_exitcode(child.reap())
    assert how == 0 or how in CRASHES
    assert_whole(m)


@pytest.mark.parametrize("seed", range(3))
def test_faulthandler_on_a_timer_ends_a_busy_process(make, start, seed):
    m = make(size="256KB", shards=1, lock_timeout=5.0)
    m["n"] = 0

    def work(child: Child) -> Any:
        with open(os.devnull, "w") as nowhere:
            after = random.Random(seed).uniform(0.05, 0.15)
            faulthandler.dump_traceback_later(after, exit=True, file=nowhere)
            return work_on(m, 20)

    how = os.waitstatus_to_exitcode(start(work).reap())
    assert how == 1 or how in CRASHES, f"seed {seed}: {how}"
    assert_whole(m, seed)
