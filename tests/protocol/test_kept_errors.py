"""A signal's handler raises anywhere in an operation, and who catches that keeps the exception.

Its traceback keeps every frame that it came through, with all that these have. Nothing of the map
may depend on the end of that: no operation counts as under way, no turn is taken, other threads and
processes get every lock, and the handle goes over to another map that takes the name.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import shmmap
from shmmap.lifecycle import opening
from shmmap.lifecycle.attachment import Attachment
from shmmap.locks import leaving
from shmmap.system import creation

from ..support.children import ChildFailed
from ..support.engines import once
from ..support.every_method import CALLS
from ..support.exact_signals import Instructions, Raised, raising

PATIENCE_S = 10.0
POINTS = 8  # of each operation
OPERATIONS = (
    "apply", "attach", "check", "clear", "create", "dump", "edit", "get", "get_or_set", "incr",
    "items", "lock", "merge", "popitem", "reap", "repair", "semaphore", "set_many", "snapshot",
    "stats", "sweep", "sweep_if_due",
)  # fmt: skip
Trial = Callable[..., "tuple[int, str, list[str]]"]


def what_is_taken(m: Any) -> list[str]:
    """Say what this thread has left taken in this process. What it has left to another thread, as
    the freeing of a lock, is given time."""
    found = []
    if m._under_way()[1]:
        found.append("an operation counts as under way")
    opening.wait_for(m, PATIENCE_S)
    if m._under_way() != (0, 0):
        found.append("an operation counts as another thread's")
    turns = {"the handle": m._turn, "the attachment": m.attachment.mutex, **creation._mutexes}
    found += [f"the turn of {what} is taken" for what, turn in turns.items() if turn.owned()]

    def take() -> None:
        if m.attachment.snapshots.acquire(blocking=False):
            m.attachment.snapshots.release()
        else:
            found.append("the turn of snapshots is taken")

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return found


def take_all_and_unlink(name: str) -> None:
    """Do what needs all that there is to be taken, and unlink the map."""
    with shmmap.ShmMap.attach(name, lock_timeout=PATIENCE_S) as other:
        other.snapshot()
        with other.lock("l", timeout=PATIENCE_S), other.lock("fresh", timeout=PATIENCE_S):
            other["theirs"] = 1
        for _ in range(2):
            other.semaphore("s", 2, timeout=PATIENCE_S).acquire()
        other.unlink()


@pytest.fixture
def trial(name: str, start: Any, tmp_path: Path) -> Trial:
    """trial(operation, at, function): do it with a signal before an instruction; return how many
    there were, the place, and what is wrong."""

    def run(operation: str, at: int, function: str = "") -> tuple[int, str, list[str]]:
        m = shmmap.ShmMap(
            name, "400KB", shards=2, sweep_interval=None, lock_timeout=PATIENCE_S / 2
        )
        m.update({"a": 1, "b": "two", "l": [3], "t": (1, None)})
        (tmp_path / "dump").unlink(missing_ok=True)
        point, kept = Instructions(at, function), list[Raised]()
        with raising():
            try:
                point.during(lambda: CALLS[operation](m, str(tmp_path)))
            except Raised as error:
                kept.append(error)
        wrong = what_is_taken(m)
        if not wrong:
            child = start(lambda child: take_all_and_unlink(name))
            try:
                child.result(9 * PATIENCE_S)
            except ChildFailed as error:
                wrong.append(f"another process: {error}")
            child.reap()
        if wrong:
            shmmap.unlink(name)
        try:
            m["after"] = 1
            assert (m["after"], len(m)) == (1, 1)
        except shmmap.MapUnlinked as error:
            wrong.append(f"afterwards: {error}")
        kept.clear()
        m.close()
        shmmap.unlink(f"{name}-other", missing_ok=True)
        return point.count, point.place, wrong

    return run


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_nothing_depends_on_the_end_of_an_exception(trial, operation):
    count, _, wrong = trial(operation, 0)
    assert wrong == []  # compiled functions have no instructions: some operations have few or none
    for at in random.Random(operation).sample(range(1, count + 1), min(POINTS, count)):
        _, place, wrong = trial(operation, at)
        assert not wrong, (at, place)


def kept_by_frames(function: Callable[..., Any], held: object) -> Callable[..., Any]:
    """Make the exit of a `with` as a method would be: its frame has what is held."""
    return partial(lambda held, *raised: function(lambda: held, *raised), held)


class Fault(NamedTuple):
    """What is put in the place of what there is, and the function whose end it spoils."""

    owner: Any
    name: str
    planted: Any
    operation: str
    function: str
    sign: str


def _as_contextlib_does(owner: Any, name: str, *where: str) -> Fault:
    """Make a fault: a block is what it was before there were blocks."""
    return Fault(owner, name, contextmanager(getattr(owner, name).__wrapped__), *where)


FAULTS = {
    "an operation": _as_contextlib_does(
        shmmap.ShmMap, "_inside", "lock", "let_go", "an operation counts"),
    "a turn": _as_contextlib_does(
        Attachment, "alone", "sweep_if_due", "_take_lease", "the turn of"),
    "a creation": _as_contextlib_does(
        creation, "creation_lock", "attach", "join_map", "the turn of"),
    "a lock": Fault(
        leaving, "exit_of", kept_by_frames, "lock", "_lock", "another process: LockTimeout"),
}


@once  # of the machine; every instruction that it looks at is Python's with either engine
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("what", FAULTS)
def test_an_end_that_can_be_left_out_is_found(trial, monkeypatch, what):
    """At no instruction of a function is anything wrong, until the fault is in its place."""
    fault = FAULTS[what]
    count = trial(fault.operation, 0, fault.function)[0]
    for at in random.Random(what).sample(range(1, count + 1), POINTS):
        assert not trial(fault.operation, at, fault.function)[2]
    monkeypatch.setattr(fault.owner, fault.name, fault.planted)
    for at in range(count, 0, -1):
        found = trial(fault.operation, at, fault.function)[2]
        assert all(fault.sign in text or "afterwards" in text for text in found)
        if found:
            return
    raise AssertionError(f"not found at any of {count} instructions")
