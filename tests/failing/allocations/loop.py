"""The loop: cases of an operation, a state, an allocator, each in a process of its own."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import shmmap

from .memory import ALLOCATORS, HOW, Faults
from .operations import NAMED
from .world import STATES, Operation, World

PATIENCE_S = 15.0  # for one run of one operation
TRANSIENT_S = 1.0  # a thread that frees named locks has a file of /proc open now and then
FAULTS_AT_MOST = 3  # of a case; there is no use in more
# what Python raises where a lock or a thread cannot be made for want of memory
OF_PYTHON = (
    "can't allocate lock", "can't allocate read lock", "can't start new thread",
    # of CPython 3.11, for want of room for a frame
    "error return without exception set", "returned NULL without setting an exception",
)
# CPython ends the process where each exception that it makes for want of memory wants some
ABORTS_OF_PYTHON = (
    "Cannot recover from MemoryErrors while normalizing exceptions",
    "Cannot recover from the recursive normalization of an exception",
)


class Case(NamedTuple):
    """What fails in which operation."""

    operation: str
    state: str
    allocator: str
    how: str

    def __str__(self) -> str:
        return f"{self.operation} | {self.state} | {self.allocator}, {self.how}"


class Result(NamedTuple):
    """What a case came to: how many allocations were failed, and the faults found."""

    tried: int
    faults: list[str]


def all_cases() -> list[Case]:
    """List every case."""
    return [
        Case(operation, state, allocator, how)
        for operation in NAMED for state in STATES for allocator in ALLOCATORS for how in HOW
    ]


def some_cases() -> list[Case]:
    """Pick one case of each operation in each state: allocators and ways take turns."""
    cases = []
    for number, operation in enumerate(NAMED):
        for place, state in enumerate(STATES):
            turn = number + place
            cases.append(Case(operation, state, list(ALLOCATORS)[turn % 2],
                              list(HOW)[turn // 2 % 2]))
    return cases


def numbers(thoroughly: bool) -> Iterator[int]:
    """Return which allocations to fail: all, or the first ones and then ever fewer."""
    at, fewer = 1, 2 if shmmap.ENGINE == "pure" else 4  # which allocates at every step
    while True:
        yield at
        at += 1 if thoroughly else 1 + at // fewer


# -- in the process of a case ----------------------------------------------------------------


def run_case(case: Case, faults: Faults, ats: Iterable[int], tell: Any, name: str) -> None:
    """Fail one allocation after the other; tell each time what came of it."""
    operation = NAMED[case.operation]
    unraised: list[str] = []
    sys.unraisablehook = lambda told: unraised.append(f"{told.exc_value!r} in {told.object!r}")
    with tempfile.TemporaryDirectory() as folder:
        world = World(name, Path(folder))
        try:
            world.open()
            warm_up(world, operation)
            for at in ats:
                tell({"at": at})
                problems, fired = run_once(world, case, faults, at)
                problems += [f"not raised, only printed: {text}" for text in unraised]
                unraised.clear()
                tell({"fired": fired, "problems": problems})
                if not fired:
                    break
                if problems or operation.is_life:
                    world.close()
                    world.open()
        finally:
            world.close()


def warm_up(world: World, operation: Operation) -> None:
    """Run it once with memory: what is imported at the first use is imported then."""
    world.fill()
    if operation.arrange:
        operation.arrange(world)
    result = operation.run(world)
    if operation.finish:
        operation.finish(world, result)
    if operation.is_life:
        world.close()
        world.open()


def run_once(world: World, case: Case, faults: Faults, at: int) -> tuple[list[str], int]:
    """Run the operation with one failing allocation; list what is wrong after it."""
    operation = NAMED[case.operation]
    world.fill()
    before = world.resources()
    if operation.arrange:
        operation.arrange(world)
    world.enter(case.state)
    outcome = faults.call(
        lambda: operation.run(world), ALLOCATORS[case.allocator], at, HOW[case.how]
    )
    problems = []
    error = outcome.error
    if error is not None and not isinstance(error, (MemoryError, shmmap.ShmMapError)) and (
        not str(error).endswith(OF_PYTHON)
    ):
        problems.append(f"it raised {error!r}")
    if error is not None and not outcome.fired:
        problems.append(f"it raised {error!r} though every allocation succeeded")
    if error is not None:
        error.__traceback__ = error.__context__ = error.__cause__ = None
    if operation.finish and (error is None or operation.always):
        operation.finish(world, outcome.result)
    world.settle()
    problems += world.problems(operation, error is None)
    until = time.monotonic() + TRANSIENT_S
    while more := [
        f"{what}: {before[what]} before, {after} after"
        for what, after in world.resources().items() if after > before[what]
    ]:
        if time.monotonic() > until:
            problems += more
            break
        time.sleep(0.005)
    return problems, outcome.fired


# -- in the process that starts them -----------------------------------------------------------


def run_cases(
    cases: Iterable[Case], faults: Faults, thoroughly: bool, report: Any
) -> Iterator[tuple[Case, Result]]:
    """Run each case in a forked process."""
    for number, case in enumerate(cases):
        tried, found = 0, []
        ats = numbers(thoroughly)
        while True:
            at, more, problems, ended = run_child(case, faults, ats, f"oom-{os.getpid()}-{number}")
            tried += more
            found += problems
            if ended or len(found) >= FAULTS_AT_MOST:
                break
            ats = (k for k in numbers(thoroughly) if k > at)
        yield case, Result(tried, found)


def run_child(
    case: Case, faults: Faults, ats: Iterable[int], name: str
) -> tuple[int, int, list[str], bool]:
    """Run a case in a child until it ends or dies: (last allocation, how many failed, faults,
    whether it came to the end)."""
    reader, writer = os.pipe()
    # what the interpreter says as it aborts
    last_words = tempfile.TemporaryFile()  # noqa: SIM115
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.dup2(last_words.fileno(), 2)
        code = 1
        try:
            run_case(case, faults, ats,
                     lambda told: os.write(writer, json.dumps(told).encode() + b"\n"), name)
            code = 0
        except BaseException as error:
            os.write(writer, json.dumps({"harness": repr(error)}).encode() + b"\n")
        finally:
            os._exit(code)
    os.close(writer)
    at, tried, problems, buffer, hung = 0, 0, [], b"", False
    until = time.monotonic() + PATIENCE_S
    while True:
        if not select.select([reader], [], [], max(0.0, until - time.monotonic()))[0]:
            os.kill(child, signal.SIGKILL)
            hung = True
            break
        data = os.read(reader, 1 << 16)
        if not data:
            break
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            told = json.loads(line)
            until = time.monotonic() + PATIENCE_S
            at = told.get("at", at)
            tried += told.get("fired", 0) > 0
            problems += [f"allocation {at}: {text}" for text in told.get("problems", ())]
            if "harness" in told:
                problems.append(f"allocation {at}: the harness broke off: {told['harness']}")
        if len(problems) >= FAULTS_AT_MOST:
            os.kill(child, signal.SIGKILL)
            break
    os.close(reader)
    status = os.waitpid(child, 0)[1]
    if hung:
        problems.append(f"allocation {at}: it hung")
    elif os.WIFSIGNALED(status) and os.WTERMSIG(status) != signal.SIGKILL:
        last_words.seek(0)
        said = last_words.read().decode(errors="replace")
        if not any(text in said for text in ABORTS_OF_PYTHON):
            problems.append(
                f"allocation {at}: the process died of signal {os.WTERMSIG(status)}: {said[-2000:]}"
            )
    last_words.close()
    left = World(name, Path("/"))
    left.close()
    return at, tried, problems, not status
