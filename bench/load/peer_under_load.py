"""One peer under load: its store, its workers, what they did, and whether it was right."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from ..core.peer import Peer
from ..core.results import Row
from ..core.scenario import Lane
from ..core.timing import gather_loop
from ..core.workloads import key_of
from .histogram import Histogram
from .mixed_workers import Answer, MixedJob, Point, Stage, told
from .operation_mix import EVERY
from .signed_values import Counters, Ledger, Tally
from .worker_pool import WorkerPool

SLOW_NS = 8_000  # reading the clock is nothing beside such an operation: every one is timed singly
LOOKED = 16  # entries that are read after filling, for that
LOOKS = 5  # the quickest of them counts
RECHECKED = 256  # entries that are read back after a stretch; of a slow peer as many as looked at
WARM_UP = 0.25  # of a stretch
CROWDED = 4  # processes; the more there are beyond, the longer stretches are, so that all run


class PeerUnderLoad:
    """One peer in one stage: its store, its workers, and the books of what they wrote.

    What the peer raises, also in a worker, ends its part only: `broken` says what it was.
    """

    def __init__(self, kind: type[Peer], stage: Stage, stretches: int) -> None:
        self.kind = kind
        self.stage = stage
        self.every = EVERY
        self.broken = ""
        self.books: Ledger | Tally | None = None
        self.stack = ExitStack()
        try:
            store = self._open() if kind.shared else None
            job = MixedJob(kind, store and store.address, stage, self.every, stretches)
            self.pool = WorkerPool(job, stage.workers)
            self.stack.callback(self.pool.close)
        except Exception as error:
            self.broken = told(error)
            self.stack.close()
        except BaseException:
            self.stack.close()
            raise

    def _open(self) -> Peer:
        """Open and fill the store, look at it, and see how fast it is."""
        store = self.stage.open(self.kind)
        self.stack.callback(store.close)
        gather = gather_loop(self.kind.statements[self.stage.read], store.names())

        def read(entries: list[int]) -> list[Any]:
            return gather(store.native_keys([key_of(entry) for entry in entries]), None)

        content = self.stage.content
        self.books = Tally(read) if isinstance(content, Counters) else Ledger(content, read)
        entries = [n * self.stage.entries_of(self.kind) // LOOKED for n in range(LOOKED)]
        took = []
        for _ in range(LOOKS):  # the first one finds everything cold
            begun = time.monotonic_ns()
            self.broken = self.broken or self.books.look(entries)
            took.append(time.monotonic_ns() - begun)
        if min(took) > SLOW_NS * LOOKED:
            self.every = 1
        return store

    def run(self, workers: int, seconds: float) -> tuple[list[Answer], str]:
        """Have so many workers work for so long; return what they did, and what was wrong."""
        try:
            answers: list[Answer] = self.pool.run(seconds, range(workers))
            self.broken = next((each.broken for each in answers if each.broken), "")
            if self.broken:
                return [], self.broken
            for each in answers:
                if self.books is not None:
                    self.books.note(each.writer, each.wrote, each.operations)
            problem = next((each.problem for each in answers if each.problem), "")
            if self.books is not None:
                problem = problem or self.books.check(RECHECKED if self.every > 1 else LOOKED)
        except Exception as error:
            self.broken = told(error)
            return [], self.broken
        return answers, problem

    def close(self) -> None:
        """End the workers, then remove the store."""
        self.stack.close()


class Stretch(NamedTuple):
    """What all workers together did in one stretch."""

    per_s: float
    spans: Histogram
    fairness: float
    verified: int

    @classmethod
    def of(cls, answers: Sequence[Answer]) -> Stretch:
        """Sum up; the window is from the first worker's start to the last one's end."""
        spans = Histogram()
        for each in answers:
            spans.add(each.spans)
        window = max(each.ended for each in answers) - min(each.begun for each in answers)
        counts = [each.operations for each in answers]
        return cls(
            sum(counts) / window * 1e9, spans, min(counts) / max(counts),
            sum(each.verified for each in answers),
        )


class LoadLane(Lane):
    """A peer at one point. Its first stretch is short, warms up, and counts for nothing."""

    def __init__(self, scenario: str, loaded: PeerUnderLoad, point: Point, seconds: float) -> None:
        self.scenario = scenario
        self.loaded = loaded
        self.point = point
        self.seconds = seconds * max(1.0, point.processes / CROWDED)
        self.problem = ""
        self.stretches: list[Stretch] = []

    def repeat(self, number: int) -> None:
        """Let the workers work for one stretch."""
        if self.loaded.broken:
            return
        seconds = self.seconds if number else self.seconds * WARM_UP
        answers, problem = self.loaded.run(self.point.processes, seconds)
        self.problem = self.problem or problem
        if number and answers:
            self.stretches.append(Stretch.of(answers))

    def close(self) -> None:
        """Do nothing: the peer goes on with the next point."""

    def row(self) -> Row:
        """Return what was found; of a peer that broke nothing but why."""
        problem = self.problem or self.loaded.broken
        kind = self.loaded.kind.name
        if self.loaded.broken or not self.stretches:
            return Row.of(self.scenario, kind, {}, problem, self.point.point)
        facts = {
            "entries": self.loaded.stage.entries_of(self.loaded.kind),
            "one timed singly of": self.loaded.every,
            "timed singly": sum(each.spans.count for each in self.stretches),
            "verified": sum(each.verified for each in self.stretches),
        }
        return Row.of(
            self.scenario, kind, figures(self.stretches, self.point.processes), problem,
            self.point.point, facts,
        )


def figures(stretches: Sequence[Stretch], processes: int) -> dict[str, list[float]]:
    """Return the figures of a row; a percentile only if three operations at least lie beyond it."""
    spans = [each.spans for each in stretches]
    samples: dict[str, list[float]] = {
        "per_s": [round(each.per_s) for each in stretches],
        "most_ns": [each.most for each in spans],
    }
    least = min(each.count for each in spans)
    for name, share in (("p50_ns", 0.5), ("p99_ns", 0.99), ("p999_ns", 0.999)):
        if least * (1 - share) >= 3:
            samples[name] = [each.within(share) for each in spans]
    if processes > 1:
        samples["fairness"] = [round(each.fairness, 4) for each in stretches]
    return samples
