"""One trial: a process that does an operation, a deed in the middle of it, and a look at the rest.

The process itself looks at what only it can see (`aftermath`: operations counted as under way,
locks, time that close() takes, mappings and descriptors left); another one at what all see
(`judges`).
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from shmmap.errors import ShmMapError

from . import deeds, exits, operations
from .aftermath import Aftermath, descriptors
from .judges import judge, remove_left
from .places import PLACES, Place
from .points import Collections, Inline, Lines, Moment
from .processes import adopt, daemon_end, end_of, fork
from .world import DONE, SIDES, Report, World, word_of


class Trial(NamedTuple):
    """What to try: a failure names it, and `python -m tests.reentry replay` runs it again.

    `how`: see `points`; `at`: which allocation or line, or after how many seconds; `place`: a
    name of `PLACES`, or of an operation.
    """

    place: str
    deed: str
    how: str
    at: float = 0
    released: str = "after"  # where another process is in the way: before or after the deed

    def __str__(self) -> str:
        return f"{self.place} / {self.deed} / {self.how} / {self.at:g} / {self.released}"


class Outcome(NamedTuple):
    """What came of a trial."""

    trial: Trial
    problems: list[str]
    fired: bool
    count: int  # points that were passed
    words: dict[str, str]  # by side: how the operation ended there
    deed_words: dict[str, str]
    under_lock: bool
    where: str


def place_of(name: str) -> Place:
    """Find a place, or make one of an operation."""
    found = PLACES.get(name)
    return found if found is not None else Place(name, operations.BY_NAME[name], ())


class Runner:
    """Runs trials, each in a process group of its own."""

    def __init__(self, label: str, mutate: Callable[[], None] = lambda: None) -> None:
        self.label = label
        self.mutate = mutate  # plants a fault in the trial's process
        self.number = 0
        self.counts: dict[tuple[str, str], int] = {}

    def run(self, trial: Trial) -> Outcome:
        """Run one trial."""
        self.number += 1
        name = f"t{os.getpid()}-{self.label}{self.number}"
        report = Report()
        said = os.memfd_create("said")
        try:
            if trial.how.startswith("exit"):
                pid = exits.start(trial.how, trial.deed, name, report, said)
            else:
                pid = fork(self._work(trial, name, report), said)
            problems = end_of("the process", pid, report)
            problems += daemon_end(report)
            mine = report.read("itself") or {}
            if not problems:
                problems += judge(place_of(trial.place).operation, trial.deed, name, report, said)
            for side in SIDES:
                other = report.read(side)
                problems += other["problems"] if other else []
            if problems:
                text = os.pread(said, 6000, 0).decode(errors="replace").strip()
                problems += [text] if text else []
            remove_left(name)
            words = {s: r["outcome"] for s in SIDES if (r := report.read(s))}
            return Outcome(trial, problems, bool(mine.get("fired")), mine.get("count", 0), words,
                           mine.get("deeds", {}), bool(mine.get("under_lock")),
                           mine.get("where", ""))
        finally:
            os.close(said)
            report.close()


    def _work(self, trial: Trial, name: str, report: Report) -> Callable[[], None]:
        def work() -> None:
            self.mutate()
            _Process(trial, name, report).run()

        return work

    def count(self, place: str, how: str) -> int:
        """Count the points of a place: by a run in which nothing happens."""
        if (place, how) not in self.counts:
            never = 0 if how.startswith("line") else 10**9
            self.counts[place, how] = self.run(Trial(place, "nothing", how, never)).count
        return self.counts[place, how]


class _Process:
    """The process of a trial."""

    def __init__(self, trial: Trial, name: str, report: Report) -> None:
        self.trial = trial
        self.place = place_of(trial.place)
        self.operation = self.place.operation
        self.deed = deeds.BY_NAME[trial.deed]
        self.w = World(name, report)
        self.before: set[str] = set()

    def run(self) -> None:
        """Prepare, interrupt, look."""
        w = self.w
        adopt()
        sys.unraisablehook = self.unraisable
        self.before = descriptors()
        self.prepare()
        point = self.point()
        point.prepare()
        self.before |= {link for link in descriptors() if "shmmap" not in link}
        word = DONE
        try:
            point.during(lambda: self.place.run(w))
        except BaseException as error:
            sys.settrace(None)
            gc.disable()
            word = word_of(error)
            problem = w.refusal(error)
            if problem:
                w.problems.append(f"{w.side}, the operation: {problem}")
            error.__traceback__ = None
        w.finish(word == DONE)
        Aftermath(w, self.place, self.deed, self.before).look(point)
        w.tell(word)
        if w.side == "itself":
            said = w.report.read("itself") or {}
            said.update(count=point.count, where=getattr(point, "place", ""))
            w.report.write("itself", said)
        operations.remove_files(w)
        os._exit(0)

    def unraisable(self, found: Any) -> None:
        """Note what a finalizer raised: the library's own, or one of a deed."""
        if isinstance(found.exc_value, (ShmMapError, SystemExit)) or found.exc_value is None:
            return
        kind = type(found.exc_value).__name__
        if kind != "Boom":
            self.w.problems.append(f"raised in a finalizer: {kind}: {found.exc_value!s:.160}")

    def prepare(self) -> None:
        """Make the map and what the operation needs."""
        w, operation = self.w, self.operation
        w.parameters = {
            "size": "400KB", "shards": 2, "sweep_interval": None, "lock_timeout": 1.0,
            **self.place.parameters,
        }
        if operation.ephemeral and "ephemeral" not in w.parameters:
            w.parameters["ephemeral"] = True
        if operation.near:
            w.parameters["near"] = operation.near
        w.reenters = self.trial.deed in operation.reenters
        w.opens = operation.opens or operation.closes or operation.unlinks
        w.forked = self.deed.forks
        w.shares_files = operation.has_file and self.deed.forks
        if operation not in operations.MAKING:
            w.box.append(w.open())
            w.choose_keys()
            operation.prepare(w)
            if operation.opens:
                w.box.pop().close()
        if self.place.in_the_way is not None:
            self.place.in_the_way(w)
        if operation.closes:
            w.closed = True
        if operation.unlinks:
            w.unlinked = True
        w.begin(operation.may(w), operation.removes_any)

    def act(self) -> None:
        """Do the deed; another process that is in the way goes out of it before or after."""
        w = self.w
        if self.trial.released == "before":
            w.release()
        try:
            w.fire(self.deed.act)
        finally:
            w.release()

    def point(self) -> Any:
        """Make what does the deed where it is to be done."""
        how, at = self.trial.how, self.trial.at
        if how == "line":
            return Lines(int(at), self.act)
        if how == "line under a lock":
            return Lines(int(at), self.act, locked=self.w.holds)
        if how.startswith("line in "):
            return Lines(int(at), self.act, how.removeprefix("line in "))
        if how == "moment":
            return Moment(at, self.act)
        if how == "inline":
            return Inline(self.w, self.act)
        return Collections(int(at), how, self.w, self.act)
