"""What does one operation take in one process? All peers take turns."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from ..core.peer import Peer
from ..core.progress import Progress
from ..core.results import Row
from ..core.scenario import Lane, Plot, Scenario, Setup, take_turns
from ..core.timing import collector_off, gather_loop, percentile, timed_loop
from ..core.workloads import Workload
from ..peers import EmptyLoop
from ..peers.answers import MANY, OPERATIONS
from .families import ONE_OPERATION

BARS = (Plot("", "time of one operation", "", "ns", "y"),)


class Latency(NamedTuple):
    """One operation over one set of keys."""

    name: str
    title: str
    operation: str
    keyset: str
    quick: bool = False
    family: str = ONE_OPERATION
    plots: tuple[Plot, ...] = BARS

    def able(self, setup: Setup) -> list[type[Peer]]:
        """List the peers that have the operation."""
        return [peer for peer in setup.peers if self.operation in peer.statements]

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return setup.scale.repetitions * len(self.able(setup))

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Time every peer; return a row for each."""
        with collector_off():
            lanes = self.open(setup)
            rows = take_turns(lanes, setup.scale.repetitions, progress)
        add_net(rows)
        return rows

    def open(self, setup: Setup) -> Sequence[Lane]:
        """Make and fill all stores; if one fails in an unknown way, none is left."""
        with ExitStack() as stack:
            lanes = []
            for kind in self.able(setup):
                lanes.append(OperationLane(self, kind, kind.fitting(setup.workload)))
                stack.callback(lanes[-1].close)
            for lane in lanes:  # when all are filled: the last one should not be warmest
                lane.warm_up()
            stack.pop_all()
        return lanes


class OperationLane:
    """One peer in one scenario: its keys, its own loops, what it took, what was wrong."""

    def __init__(self, scenario: Latency, kind: type[Peer], workload: Workload) -> None:
        self.scenario = scenario
        self.kind = kind
        self.peer: Peer | None = None
        self.failure = ""
        self.repetitions: list[list[float]] = []
        self.facts: dict[str, Any] = {"entries": workload.scale.keys}
        check = OPERATIONS[scenario.operation]
        try:
            with self._guarded("opening"):
                entries = check.entries(workload)
                self.peer = kind(len(entries), check.value_bytes)
                self.peer.fill(entries)
                limit = check.keys_of(kind.limit(workload.scale, scenario.operation))
                batches = workload.split(scenario.keyset, limit)
                self.check = check(self.peer, workload, batches)
                self._prepare(batches)
        except BaseException:
            self.close()
            raise

    def _prepare(self, batches: list[list[str]]) -> None:
        assert self.peer is not None
        names = self.peer.names()
        self.timed = timed_loop(self.check.statement(), names)
        self.gather = gather_loop(self.check.statement(), names)
        native = iter(self.peer.native_keys([key for keys in batches for key in keys]))
        self.native = [[next(native) for _ in keys] for keys in batches]
        calls = len(self.check.calls(self.native[0], 0, 0))
        self.facts |= {"batches": len(batches), "calls_a_batch": calls}

    @contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        """Keep to this peer what goes wrong with it: the others go on."""
        try:
            yield
        except Exception as error:
            text = " ".join(str(error).split())[:120]
            self.failure = self.failure or f"{what}: {type(error).__name__}: {text}"

    def warm_up(self) -> None:
        """Verify every key; touch everything once."""
        if self.kind.answers and not self.failure:
            with self._guarded("verifying"):
                self.check.prepare(-1)
                self.check.before(self.gather)

    def repeat(self, number: int) -> None:
        """Time every batch once."""
        if not self.failure:
            with self._guarded(f"repetition {number}"):
                self._repeat(number)

    def _repeat(self, number: int) -> None:
        check, answers = self.check, self.kind.answers
        if answers:
            check.prepare(number)
        batches = [
            (check.calls(keys, number, index), check.value(number, index))
            for index, keys in enumerate(self.native)
        ]
        took: list[tuple[int, Any]] = [self.timed(calls, value) for calls, value in batches]
        means = zip(took, self.native, strict=True)
        self.repetitions.append([round(ns / len(keys), 2) for (ns, _), keys in means])
        if answers:
            for index, (_, last) in enumerate(took):
                check.batch(index, last)
            check.repetition(number)

    def row(self) -> Row:
        """Verify every key again; return what was found."""
        if self.kind.answers and not self.failure:
            with self._guarded("verifying again"):
                self.check.after(self.gather)
        problem = self.failure or self.check.problem
        samples = {
            "ns": [statistics.median(means) for means in self.repetitions],
            "p99_ns": [percentile(means, 0.99) for means in self.repetitions],
        }
        least = min((min(means) for means in self.repetitions), default=None)
        return Row.of(
            self.scenario.name, self.kind.name, samples, problem,
            facts={**self.facts, "least_ns": least},
        )

    def close(self) -> None:
        """Remove the store."""
        if self.peer is not None:
            self.peer.close()


def add_net(rows: Sequence[Row]) -> None:
    """Add what is left of each repetition without the loop, which ran in it too."""
    loop = next((row for row in rows if row.peer == EmptyLoop.name), None)
    for row in rows:
        if loop is not None and row is not loop and not row.problem:
            pairs = zip(row.samples["ns"], loop.samples["ns"], strict=True)
            row.samples["net_ns"] = [round(raw - empty, 2) for raw, empty in pairs]


SCENARIOS: tuple[Scenario, ...] = (
    Latency("get-hot", "get, 64 hot keys of 100,000", "get", "hot", quick=True),
    Latency("get-shuffled", "get, 100,000 keys in a fixed shuffled order", "get", "shuffled",
            quick=True),
    Latency("get-insertion", "get, 100,000 keys in insertion order", "get", "insertion"),
    Latency("miss-shuffled", "get of 100,000 keys that are not there", "miss", "absent"),
    Latency("contains-shuffled", "in, 100,000 keys in the shuffled order", "contains", "shuffled"),
    Latency("set-hot", "set of existing keys, 64 hot ones", "set", "hot"),
    Latency("set-shuffled", "set of 100,000 existing keys, shuffled", "set", "shuffled",
            quick=True),
    Latency("set-insertion", "set of 100,000 existing keys, insertion order", "set", "insertion"),
    Latency("incr-hot", "incr of 64 hot counters", "incr", "hot", quick=True),
    Latency("delete-shuffled", "delete of 5,000 keys of 100,000", "delete", "shuffled"),
    Latency("get-object", "get of 64 records of ten fields", "get_object", "hot"),
    Latency("set-object", "set of 64 records of ten fields", "set_object", "hot"),
    Latency("get-many", f"get_many of {MANY} keys; the time is one entry's", "get_many",
            "shuffled"),
    Latency("set-many", f"set_many of {MANY} entries; the time is one entry's", "set_many",
            "shuffled"),
)
