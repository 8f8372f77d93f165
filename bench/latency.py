"""Scenarios that time one operation in one process, all peers interleaved."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, NamedTuple

from .operations import OPERATIONS
from .peers import EmptyLoop, Peer, ShmMapPeer
from .progress import Progress
from .timing import Summary, collector_off, gather_loop, paired_ratio, timed_loop
from .workloads import Workload


class Latency(NamedTuple):
    """One operation over one set of keys."""

    name: str
    title: str
    operation: str
    keyset: str

    def steps(self, workload: Workload, peers: list[type[Peer]]) -> int:
        """Count the progress steps."""
        return workload.scale.repetitions

    def run(
        self, workload: Workload, peers: list[type[Peer]], progress: Progress
    ) -> list[dict[str, Any]]:
        """Time every peer; gives a row for each."""
        entries = OPERATIONS[self.operation].entries(workload)
        with ExitStack() as stack:
            lanes = []
            for kind in peers:
                peer = kind(len(entries))
                stack.callback(peer.close)
                peer.fill(entries)
                lanes.append(Lane(self, peer, workload))
            for lane in lanes:
                lane.warm_up()
            for number in range(workload.scale.repetitions):
                with collector_off():
                    # There and back again, so that none always runs after the same other one.
                    for lane in lanes if number % 2 == 0 else reversed(lanes):
                        lane.repeat(number)
                progress.step()
            for lane in lanes:
                lane.finish()
        return [lane.row() for lane in lanes]


class Lane:
    """One peer in one scenario: its keys, its own loops, what it took, what was wrong."""

    def __init__(self, scenario: Latency, peer: Peer, workload: Workload) -> None:
        self.scenario = scenario
        self.peer = peer
        statement, names = peer.statements[scenario.operation], peer.names()
        self.timed = timed_loop(statement, names)
        self.gather = gather_loop(statement, names)
        batches = workload.split(scenario.keyset, peer.limit(workload.scale))
        native = iter(peer.native_keys([key for keys in batches for key in keys]))
        self.native = [[next(native) for _ in keys] for keys in batches]
        self.check = OPERATIONS[scenario.operation](peer, workload, batches)
        self.repetitions: list[list[float]] = []

    def warm_up(self) -> None:
        """Verify every key; touch everything once."""
        if self.peer.answers:
            self.check.before(self.gather)

    def repeat(self, number: int) -> None:
        """Time every batch once."""
        values = [self.check.value(number, index) for index in range(len(self.native))]
        took: list[tuple[int, Any]] = [
            self.timed(keys, value) for keys, value in zip(self.native, values, strict=True)
        ]
        means = zip(took, self.native, strict=True)
        self.repetitions.append([round(ns / len(keys), 2) for (ns, _), keys in means])
        if self.peer.answers:
            for index, (_, last) in enumerate(took):
                self.check.batch(index, last)
            self.check.repetition(number)

    def finish(self) -> None:
        """Verify every key again."""
        if self.peer.answers:
            self.check.after(self.gather)

    def row(self) -> dict[str, Any]:
        """Give what was found, with every batch mean."""
        summary = Summary.of(self.repetitions)
        return {
            "scenario": self.scenario.name,
            "peer": self.peer.name,
            "operations_a_batch": len(self.native[0]),
            "median_ns": summary.median,
            "p99_ns": summary.p99,
            "least_ns": summary.least,
            "problem": self.check.problem,
            "batch_means_ns": self.repetitions,
        }


def add_ratios(rows: list[dict[str, Any]]) -> None:
    """Add to each row what is left without the loop, and its ratio to dict (paired, raw)."""
    figures = {row["peer"]: row["batch_means_ns"] for row in rows}
    loop = next((r["median_ns"] for r in rows if r["peer"] == EmptyLoop.name), None)
    for row in rows:
        row["net_ns"] = None if loop is None else row["median_ns"] - loop
        row["to_dict"] = (
            paired_ratio(row["batch_means_ns"], figures["dict"]) if "dict" in figures else None
        )


def metrics(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Name the figures of one scenario: "get-hot/shmmap ns", "get-hot/shmmap:dict" (a ratio).

    A peer that answered wrongly has none.
    """
    sound = {row["peer"]: row for row in rows if not row["problem"]}
    found = {}
    mine = sound.get(ShmMapPeer.name)
    for peer, row in sound.items():
        found[f"{row['scenario']}/{peer} ns"] = row["median_ns"]
        if mine is not None and peer not in (ShmMapPeer.name, EmptyLoop.name):
            for above, below in ((mine, row), (row, mine)):
                pair = f"{row['scenario']}/{above['peer']}:{below['peer']}"
                found[pair] = paired_ratio(above["batch_means_ns"], below["batch_means_ns"])[0]
    return found


SCENARIOS = (
    Latency("get-hot", "get, 64 hot keys of 100,000", "get", "hot"),
    Latency("get-shuffled", "get, 100,000 keys in a fixed shuffled order", "get", "shuffled"),
    Latency("get-insertion", "get, 100,000 keys in insertion order", "get", "insertion"),
    Latency("miss-shuffled", "get of 100,000 keys that are not there", "miss", "absent"),
    Latency("contains-shuffled", "in, 100,000 keys in the shuffled order", "contains", "shuffled"),
    Latency("set-hot", "set of existing keys, 64 hot ones", "set", "hot"),
    Latency("set-shuffled", "set of 100,000 existing keys, shuffled", "set", "shuffled"),
    Latency("set-insertion", "set of 100,000 existing keys, insertion order", "set", "insertion"),
    Latency("incr-hot", "incr of 64 hot counters", "incr", "hot"),
)
