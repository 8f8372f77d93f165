"""Worker processes that read and write one store of one peer, all at once."""

from __future__ import annotations

import itertools
import time
from collections import deque
from functools import lru_cache
from typing import Any, NamedTuple

from ..core.peer import Peer
from ..core.workloads import key_of
from .histogram import Histogram
from .operation_mix import EVERY, PLAN, Mix, Plan, Round, mixed_loop
from .signed_values import FILLED, MOST_ENTRIES, Content
from .worker_pool import Work, WorkerError

HELD_BYTES = 32 * 10**6  # a plan's values, and the answers that wait for being verified
TOGETHER = 1 << 19  # operations of all workers' plans


class Point(NamedTuple):
    """One point of a scenario: what so many processes do."""

    point: dict[str, Any]
    mix: Mix = Mix()
    processes: int = 2


class Stage(NamedTuple):
    """Points that share a store and its workers.

    Attributes:
        content: what its values are.
        entries: how many.
        points: measured one after the other, the peers in turns.
        read: the operation that reads; it may be one that counts.
        write: the one that writes.
    """

    content: Content
    entries: int
    points: tuple[Point, ...]
    read: str = "get"
    write: str = "set"

    @property
    def workers(self) -> int:
        """How many processes the largest point has."""
        return max(point.processes for point in self.points)

    def suits(self, kind: type[Peer]) -> bool:
        """Say whether a peer has these operations."""
        return {self.read, self.write} <= kind.statements.keys()

    def entries_of(self, kind: type[Peer]) -> int:
        """Return how many entries this peer gets; fewer if filling it would take minutes."""
        return min(self.entries, kind.most_entries or self.entries)

    def open(self, kind: type[Peer]) -> Peer:
        """Open and fill a store."""
        entries = self.entries_of(kind)
        store = kind(entries, self.content.value_bytes)
        try:
            store.fill(_filling(self.content, entries))
        except BaseException:
            store.close()
            raise
        return store


@lru_cache(maxsize=1)
def _filling(content: Content, entries: int) -> dict[str, Any]:
    """Make what stores begin with, once for the peers that follow each other."""
    assert entries <= MOST_ENTRIES, f"{entries} entries are more than signatures tell apart"
    return {key_of(entry): content.make(entry, *FILLED) for entry in range(entries)}


class Answer(NamedTuple):
    """What a worker did in one stretch.

    Attributes:
        writer: which worker.
        operations: how many.
        begun: when, by the clock of the machine.
        ended: when.
        spans: latencies of single operations.
        verified: answers that were looked at.
        wrote: the number of its last write to each entry.
        problem: the first wrong answer.
        broken: the peer raised this; the rest is worth nothing.
    """

    writer: int
    operations: int
    begun: int
    ended: int
    spans: Histogram
    verified: int
    wrote: dict[int, int]
    problem: str = ""
    broken: str = ""


class MixedJob(NamedTuple):
    """How a worker gets ready.

    Attributes:
        kind: the peer.
        address: of its store; None: every worker has its own.
        stage: what to do.
        every: of so many operations one is timed singly.
        stretches: at each point.
    """

    kind: type[Peer]
    address: Any
    stage: Stage
    every: int
    stretches: int

    def begin(self, index: int) -> Work:
        """Open the store; draw the plans."""
        try:
            return MixedWorker(self, index)
        except Exception as error:
            return Broken(index + 1, told(error))


class Broken(NamedTuple):
    """A worker that could not get ready; it says why when it is asked for figures."""

    writer: int
    broken: str

    def run(self, until_ns: int) -> Answer:
        """Do nothing."""
        return Answer(self.writer, 0, 0, 0, Histogram(), 0, {}, broken=self.broken)

    def close(self) -> None:
        """Do nothing."""


class MixedWorker:
    """A worker: at each command it goes on with the plan of the point that is its turn."""

    def __init__(self, job: MixedJob, index: int) -> None:
        stage, kind = job.stage, job.kind
        self.content, self.writer = stage.content, index + 1
        entries = stage.entries_of(kind)
        if job.address is None:
            self.peer = stage.open(kind)
            names = list(_filling(stage.content, entries))  # dict at its best: the same objects
        else:
            self.peer = kind.attach(job.address)
            names = [key_of(entry) for entry in range(entries)]
        keys = self.peer.native_keys(names)
        room = HELD_BYTES // stage.content.value_bytes
        numbers = itertools.count()
        rounds: dict[Mix, Round] = {}
        self.turns: list[Round] = []
        for point in stage.points:
            if index < point.processes:
                if point.mix not in rounds:
                    rounds[point.mix] = Round(Plan.of(
                        point.mix, keys, stage.content, self.writer, numbers, job.every,
                        _operations(point.mix, room, stage.workers),
                    ))
                self.turns += [rounds[point.mix]] * job.stretches
        self.turns.reverse()
        self.held = max(EVERY, room)
        self.loop = mixed_loop(
            kind.statements[stage.read], kind.statements[stage.write], self.peer.names()
        )

    def run(self, until_ns: int) -> Answer:
        """Read and write until then."""
        turn = self.turns.pop()
        spans: list[int] = []
        answers: deque[tuple[int, Any]] = deque(maxlen=self.held)
        begun = time.monotonic_ns()
        try:
            done = self.loop(turn.groups, until_ns, spans.append, answers.append)
        except Exception as error:  # whatever a peer raises is told of, and ends its part
            return Broken(self.writer, told(error)).run(until_ns)
        ended = time.monotonic_ns()
        return Answer(
            self.writer, done * turn.plan.every, begun, ended, Histogram(spans), len(answers),
            turn.passed(done), self.content.wrong(answers),
        )

    def close(self) -> None:
        """Let the store go."""
        self.peer.close()


def _operations(mix: Mix, room: int, workers: int) -> int:
    """Return the length of a plan: whole rounds of large values must fit into the memory."""
    writes = int(room / (1 - mix.reads)) if mix.reads < 1 else PLAN
    return max(EVERY, min(PLAN, writes, TOGETHER // workers))


def told(error: Exception) -> str:
    """Tell what was raised, in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, WorkerError) else f"{type(error).__name__}: {text[:200]}"
