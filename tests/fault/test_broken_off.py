"""An exception at any moment of opening, using, closing and unlinking a map.

Python runs signal handlers when a function begins and when a call into C has returned. A
profile function is called at those very moments, the standard library's included: here it
raises at the n-th, for one n after the other, as a handler may.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import opening
from shmmap.system import creation

from ..support.children import Child
from ..support.shard0 import PURE

AT_ONCE_S = 1.0  # on a machine that has much else to do
MOMENTS = 40  # so many of an operation's moments are tried, or all; each seed tries others


class BrokenOff(Exception):
    """What the handler raises."""


def break_off(operation: Callable[[], Any], moment: int) -> str:
    """Raise at a moment of an operation; return where that was, "" if it ended before."""
    left = moment
    where = ""

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal left, where
        if event in ("call", "c_return"):
            left -= 1
            if left == 0:
                where = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
                raise BrokenOff(where)

    sys.setprofile(profile)
    try:
        operation()
    except BrokenOff:
        pass
    finally:
        sys.setprofile(None)
    return where


def count_moments(operation: Callable[[], Any]) -> int:
    """Count the moments of an operation at which a handler may run."""
    count = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_return")

    sys.setprofile(profile)
    try:
        operation()
    finally:
        sys.setprofile(None)
    return count


def open_small(name: str) -> Any:
    """Open the map of these tests."""
    return shmmap.ShmMap(name, "177KB", shards=1, lock_timeout=1, sweep_interval=None)


def use(name: str) -> float:
    """Open, write, close; return the seconds it took."""
    began = time.monotonic()
    with open_small(name) as m:
        m["a"] = 1
    return time.monotonic() - began


def using(operation: Callable[[Any], Any]) -> Callable[[str], Callable[[], Any]]:
    """Have a map open, and stay so, while an operation on it is broken off."""
    def prepare(name: str) -> Callable[[], Any]:
        m = open_small(name)
        m["a"] = m["n"] = 1
        return lambda: operation(m)

    return prepare


def prepare_create(name: str) -> Callable[[], Any]:
    """See that there is no map; return what makes one."""
    with open_small(name) as m:
        m.unlink()
    return lambda: open_small(name)


def prepare_open(name: str) -> Callable[[], Any]:
    """See that there is a map; return what attaches to it."""
    use(name)
    return lambda: open_small(name)


def prepare_close(name: str) -> Callable[[], None]:
    """Open a map; return what closes it."""
    m = open_small(name)
    m["a"] = 1
    return m.close  # type: ignore[no-any-return]


PREPARED: dict[str, Callable[[str], Callable[[], Any]]] = {
    "create": prepare_create, "open": prepare_open, "close": prepare_close,
    "use and drop": lambda name: lambda: open_small(name).set("a", 1),
    "unlink": lambda name: open_small(name).unlink,
}
OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "set": lambda m: m.set("a", 2), "add": lambda m: m.add("new", 2),
    "set with ttl": lambda m: m.set("a", 2, ttl=9), "incr": lambda m: m.incr("n"),
    "delete": lambda m: m.delete("a"), "pop": lambda m: m.pop("a"),
    "popitem": lambda m: m.popitem(), "touch": lambda m: m.touch("a", 9),
    "clear": lambda m: m.clear(), "get": lambda m: m.get("a"), "len": len,
    "items": lambda m: list(m.items()), "sweep": lambda m: m.sweep(),
    "repair": lambda m: m.repair(), "stats": lambda m: m.stats(),
}


def try_moments(child: Child, name: str, kind: str, seed: int) -> tuple[int, list[str]]:
    """Break an operation off at one moment after the other; after each the map is used, by
    another process first."""
    sys.unraisablehook = lambda unraisable: None  # a handler may well raise in a finalizer
    rng = random.Random(seed)
    prepare = PREPARED.get(kind) or using(OPERATIONS[kind])
    prepare(name)()  # it may make the map, which has more moments than finding it
    gap = max(1, count_moments(prepare(name)) // MOMENTS)
    bad, tried, moment = [], 0, rng.randint(1, 2 * gap - 1)
    while where := break_off(operation := prepare(name), moment):
        tried += 1
        child.tell(where)
        others = child.hear()
        if isinstance(others, str) or max(others, use(name)) > AT_ONCE_S:
            bad.append(f"{where}: {others}")
        del operation  # till here the map was open
        moment += rng.randint(1, 2 * gap - 1)
    child.tell("")
    return tried, bad


@pytest.mark.parametrize(
    ("kind", "seed"), [*((kind, seed) for kind in PREPARED for seed in range(2)),
                       *((kind, 0) for kind in OPERATIONS)],
)
def test_broken_off_at_any_moment(name, start, monkeypatch, kind, seed):
    """This process can go on at once, and so can others; its exit gives everything back."""
    monkeypatch.setattr(creation.creation_lock.__wrapped__, "__defaults__", (0.5,))  # fail soon

    def work(child: Child) -> Any:
        tried, bad = try_moments(child, name, kind, seed)
        opening.leave_all()
        return tried, bad

    child = start(work)
    while where := child.hear(10.0):
        try:
            child.tell(use(name))
        except shmmap.ShmMapError as error:
            child.tell(f"{where}: {error}")
    tried, bad = child.result()
    child.reap()
    assert bad == [] and tried >= (10 if kind in PREPARED or PURE else 1), (seed, tried, bad)
    with open_small(name) as m:
        rows = [row for row, _ in m.attachment.worker.rows_in_use()]
        assert rows == [m.attachment.worker.row] and m.check() == []
        m.unlink()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in a finalizer
@pytest.mark.parametrize("by", ["the same thread", "another thread"])
@pytest.mark.parametrize("kind", ["get", "written in Python"])
def test_no_moment_leaves_an_operation_in_flight(name, kind, by):
    """`close` would wait for it."""
    def operation() -> None:
        if kind == "get":
            m.get("a")
        else:
            with m._inside():
                len(m)

    where, moment = "none", 0
    while where:
        moment += 1
        m = open_small(name)
        where = break_off(operation, moment)
        began = time.monotonic()
        if by == "another thread":
            closing = threading.Thread(target=m.close)
            closing.start()
            closing.join(10)
        m.close()
        assert time.monotonic() - began < AT_ONCE_S, f"moment {moment}, {where}"
    assert moment > (1 if not PURE else 10)
    open_small(name).unlink()
