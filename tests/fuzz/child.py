"""The process in which damaged states are run: its maps, its neighbours, its loop."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import gc
import os
import resource
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import shmmap
from shmmap.memory import geometry
from shmmap.shard import _lookup_cy
from shmmap.system import segment

from ..support.children import die_with_parent
from ..support.damage import K
from . import visits
from .guards import GuardedMapping
from .operations import OPERATIONS
from .subject import DEAD, LATE, THEIRS, VARIANTS, Subject
from .trial import Problem, Trial
from .watch import WATCH

AGAIN = 3  # the exit code of a child whose maps were used up: start another one
MEMORY_BYTES = 512 << 20  # how much private memory damage may make an operation ask for
REPORT_S = 0.5
_kept: list[Subject] = []  # never closed: the files of one may be cut off
_SLOW = ("stats", "sweep", "sweep_if_due", "too_large")  # they take longer than all the others
_NAMES = [name for name in sorted(OPERATIONS) for _ in range(1 if name in _SLOW else 12)]

Tell = Callable[[Counter[str], Counter[str], list[Problem]], None]


@contextlib.contextmanager
def subjects(prefix: str) -> Iterator[list[Subject]]:
    """Make the maps, with a live neighbour and a dead worker in each. Who started this process
    removes their objects, since it may crash."""
    segment.Mapping = GuardedMapping
    segment.open_ours = lambda *_: None  # which would map without guards
    for module in (geometry, _lookup_cy):  # check() asks for them all the time
        module.shard_areas = functools.cache(module.shard_areas)
    made = [Subject(variant, prefix) for variant in VARIANTS]
    _kept.extend(made)
    ours, theirs = os.pipe()
    neighbour = _fork(lambda: _be_neighbour(made, theirs))
    os.close(theirs)
    os.read(ours, 1)
    WATCH.set_neighbour(neighbour)
    dead = _fork(lambda: [(s.quick.get("text"), s.hold(DEAD)) for s in made])
    os.waitpid(dead, 0)
    for s in made:
        s.neighbour_token, s.dead_token = (_token(s, row) for row in (1, 2))
        s.remember()
    try:
        yield made
    finally:
        os.kill(neighbour, signal.SIGKILL)
        os.waitpid(neighbour, 0)
        WATCH.set_neighbour(0)


def _fork(work: Callable[[], Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        die_with_parent()
        work()
    finally:
        os._exit(0)


def _be_neighbour(made: list[Subject], pipe: int) -> None:
    for s in made:
        s.quick.get("text")
        s.hold(THEIRS)
        s.hold(LATE)
    os.write(pipe, b"1")
    while True:
        signal.pause()


def _token(s: Subject, row: int) -> int:
    at = s.attachment.worker.row_offset(row)
    assert s.control[at >> 3] == 1, "the row is not in use"
    incarnation = s.control[at + K["R_INCARNATION"] >> 3]
    return row << K["TOKEN_ROW_SHIFT"] | incarnation << K["TOKEN_INCARNATION_SHIFT"]


def limit_memory() -> None:
    """Make an operation that asks for absurd amounts of memory fail."""
    with open("/proc/self/status", encoding="ascii") as file:
        used = next(int(line.split()[1]) for line in file if line.startswith("VmData")) << 10
    if "asan" not in os.environ.get("LD_PRELOAD", ""):  # that one has its own limit
        resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY_BYTES,) * 2)


def run_state(made: list[Subject], seed: int) -> tuple[Trial, bool]:
    """Damage a map, use it, repair it; give the trial, and whether the maps can be used again."""
    trial = Trial(made, seed)
    if visits.is_of_files(trial.rng):
        visits.visit_damaged_files(trial)
        return trial, False
    for _ in range(trial.rng.choice((2, 5, 12))):
        name = trial.rng.choice(_NAMES)
        trial.run(name, *OPERATIONS[name])
        if trial.rng.random() < 0.002:
            visits.some_visit(trial)
    trial.finish()
    trouble = trial.subject.attachment.sweeper.trouble
    kind = trouble.error.partition(":")[0] if trouble else "ShmMapError"
    if not hasattr(shmmap, kind):  # else it is a documented error
        trial.problems.append(Problem(seed, "?", [], "sweeper", trouble.error, f"sweeper: {kind}"))
    return trial, not trial.subject.attachment.sweeper.is_running()


def loop(prefix: str, seeds: range, tell: Tell) -> int:
    """Run the states of these seeds; return the exit code."""
    die_with_parent()
    if "asan" not in os.environ.get("LD_PRELOAD", ""):
        faulthandler.enable(sys.stderr)
    with subjects(prefix) as made:
        limit_memory()
        gc.freeze()
        outcomes: Counter[str] = Counter()
        kinds: Counter[str] = Counter()
        problems: list[Problem] = []
        _catch_threads(problems)
        told = time.monotonic()
        for seed in seeds:
            WATCH.at(seed)
            trial, reusable = run_state(made, seed)
            outcomes += trial.outcomes
            kinds.update(trial.kinds if reusable else [k.split()[0] for k in trial.kinds])
            outcomes["states"] += 1
            problems += trial.problems
            if time.monotonic() - told > REPORT_S or not reusable:
                tell(outcomes, kinds, problems)
                outcomes, kinds = Counter(), Counter()
                problems.clear()
                told = time.monotonic()
            if not reusable and seed != seeds[-1]:
                return AGAIN
        tell(outcomes, kinds, problems)
    return 0


def _catch_threads(problems: list[Problem]) -> None:
    """Note what a thread, which can only be a sweeper, raises."""

    def note(thrown: Any) -> None:
        text = f"{thrown.exc_type.__name__}: {thrown.exc_value}"
        problems.append(Problem(WATCH.seed, "?", [], "sweeper thread", text,
                                f"sweeper thread: {thrown.exc_type.__name__}"))

    threading.excepthook = note
