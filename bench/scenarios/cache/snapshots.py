"""For how long do snapshots of a map stop the processes that write it?

One process takes snapshots half of its time, two write. Beside that the same with copies of all
shards under all their locks, and with nobody who copies.
"""

from __future__ import annotations

import time
from array import array
from typing import NamedTuple

from ...core.progress import Progress
from ...core.results import Row
from ...core.scenario import Plot, Scenario, Setup, take_turns
from ...core.timing import percentile
from ...core.workloads import key_of
from ...load.ordered_writes import ALL_LOCKS, NOBODY, SNAPSHOT, OrderedWriter, WatchedWriters
from ...load.worker_pool import Work
from ...peers.own_map import all_locks
from ..families import SNAPSHOTS

WRITERS = 2
WAYS = (SNAPSHOT, ALL_LOCKS, NOBODY)


class SnapshotJob(NamedTuple):
    """A pool's job: worker 0 takes snapshots, the others write, each its own share of the keys."""

    name: str
    entries: int
    way: str

    def begin(self, index: int) -> Work:
        """Attach."""
        if index == 0:
            return Taker(self)
        mine = range(index - 1, self.entries, WRITERS)
        return OrderedWriter(self.name, [key_of(n) for n in mine])


class Taken(NamedTuple):
    """What a taker did: ns of each copy, ns that all shards were held for each."""

    times: array[int]
    held: array[int]
    problem: str


class Taker:
    """Takes copies, one after the other, with as long a rest between."""

    def __init__(self, job: SnapshotJob) -> None:
        import shmmap

        self.job, self.m = job, shmmap.ShmMap.attach(job.name)

    def run(self, until_ns: int) -> Taken:
        """Take them until it is time."""
        times, held, problem = array("q"), array("q"), ""
        while not times or time.monotonic_ns() < until_ns:
            began = time.monotonic_ns()
            if self.job.way == SNAPSHOT:
                taken = self.m.snapshot()
                times.append(time.monotonic_ns() - began)
                held.append(int(taken.held_seconds * 1e9))
                if len(taken) != self.job.entries:
                    problem = problem or f"{len(taken)} of {self.job.entries} entries"
                del taken
            else:
                with all_locks(self.m):
                    start = time.monotonic_ns()
                    copied = [bytes(each.buffer) for each in self.m.attachment.mappings]
                    held.append(time.monotonic_ns() - start)
                times.append(time.monotonic_ns() - began)
                del copied
            time.sleep(times[-1] / 1e9)
        return Taken(times, held, problem)

    def close(self) -> None:
        """Detach."""
        self.m.close()


class Snapshots(NamedTuple):
    """Snapshots, copies under all locks, and nothing of the sort, in turns."""

    name: str = "cache-snapshot"
    title: str = f"snapshots of maps of 116-byte entries under {WRITERS} writers"
    family: str = SNAPSHOTS
    quick: bool = False
    plots: tuple[Plot, ...] = (
        Plot("", "All shards held: the longest of a run", "entries", "held_most_ns", "xy"),
        Plot("pause", "The writers' longest pause", "entries", "pause_ns", "xy"),
        Plot("ms", "A whole snapshot", "entries", "ms", "xy"),
    )

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return len(WAYS) * len(setup.scale.listing) * setup.scale.experiment_repetitions

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Measure every way at every size."""
        scale = setup.scale
        lanes = (
            SnapshotLane(self.name, way, entries, scale.seconds)
            for entries in scale.listing
            for way in WAYS
        )
        return take_turns(lanes, scale.experiment_repetitions, progress)


class SnapshotLane(WatchedWriters):
    """One way, one size."""

    read: list[Taken]

    def __init__(self, scenario: str, way: str, entries: int, seconds: float) -> None:
        super().__init__(
            scenario, way, entries, seconds, lambda name: SnapshotJob(name, entries, way), WRITERS
        )

    def row(self) -> Row:
        """Return what was found."""
        samples = self.writing()
        if self.read:
            samples = {
                "held_most_ns": [float(max(each.held)) for each in self.read],
                "held_ns": [percentile(each.held, 0.5) for each in self.read],
                "ms": [percentile(each.times, 0.5) / 1e6 for each in self.read],
            } | samples
        problems = [each.problem for each in self.read if each.problem]
        return Row.of(
            self.scenario, self.way, samples, "; ".join(problems[:1]), {"entries": self.entries},
            {"copies": sum(len(each.times) for each in self.read)},
        )


SCENARIOS: tuple[Scenario, ...] = (Snapshots(),)
