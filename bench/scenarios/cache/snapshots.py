"""Scenarios: snapshots of a map under two writers: how long are they stopped?"""

from __future__ import annotations

import time
from array import array
from contextlib import ExitStack
from typing import Any, NamedTuple

from ...core.progress import Progress
from ...core.results import Row
from ...core.scenario import Plot, take_turns
from ...core.timing import percentile
from ...core.workloads import key_of
from ...load.map_traffic import remove
from ...load.worker_pool import Crew, Work
from ...peers import unique_name
from ..design.listing import ALL_LOCKS, NOBODY, SNAPSHOT, all_locks, stamp

FAMILY = "Cache: snapshots"
WRITERS = 2


class Cut(NamedTuple):
    """A crew's job: worker 0 takes snapshots, the others write, each its own half of the keys."""

    name: str
    entries: int
    way: str

    def begin(self, index: int) -> Work:
        """Attach."""
        return Taker(self) if index == 0 else Writer(self, index - 1)


class Taken(NamedTuple):
    """What a taker did: ns of each copy, ns that all shards were held for each."""

    times: array[int]
    held: array[int]
    problem: str


class Taker:
    """Takes copies, one after the other, with as long a rest between."""

    def __init__(self, job: Cut) -> None:
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


class Writer:
    """Writes its keys round and round; gives the nanoseconds of each write."""

    def __init__(self, job: Cut, number: int) -> None:
        import shmmap

        self.m = shmmap.ShmMap.attach(job.name)
        self.keys = [key_of(n) for n in range(number, job.entries, WRITERS)]
        self.turn = 0

    def run(self, until_ns: int) -> array[int]:
        """Write until it is time."""
        put, clock, times = self.m.set, time.monotonic_ns, array("q")
        note, before = times.append, clock()
        while before < until_ns:
            self.turn += 1
            value = stamp(self.turn)
            for key in self.keys:
                put(key, value)
                now = clock()
                note(now - before)
                before = now
                if now > until_ns:
                    break
        return times

    def close(self) -> None:
        """Detach."""
        self.m.close()


class Cuts(NamedTuple):
    """Snapshots, copies under all locks, and nothing of the sort, in turns."""

    name: str = "cache-snapshot"
    title: str = f"snapshots of maps of 116-byte entries under {WRITERS} writers"
    family: str = FAMILY
    quick: bool = False
    plots: tuple[Plot, ...] = (
        Plot("", "All shards held: the longest of a run", "entries", "held_most_ns", "xy"),
        Plot("pause", "The writers' longest pause", "entries", "pause_ns", "xy"),
        Plot("ms", "A whole snapshot", "entries", "ms", "xy"),
    )

    def steps(self, setup: Any) -> int:
        """Count the progress steps."""
        scale = setup.workload.scale
        return 3 * len(scale.listing) * int(scale.experiment_repetitions)

    def run(self, setup: Any, progress: Progress) -> list[Row]:
        """Measure every way at every size."""
        scale = setup.workload.scale
        with ExitStack() as stack:
            lanes = []
            for entries in scale.listing:
                for way in (SNAPSHOT, ALL_LOCKS, NOBODY):
                    lanes.append(CutLane(self.name, way, entries, scale.seconds))
                    stack.callback(lanes[-1].close)
            return take_turns(lanes, scale.experiment_repetitions, progress)


class CutLane:
    """One way, one size."""

    def __init__(self, scenario: str, way: str, entries: int, seconds: float) -> None:
        import shmmap

        self.scenario, self.way, self.entries, self.seconds = scenario, way, entries, seconds
        self.taken: list[Taken] = []
        self.writes: list[list[array[int]]] = []
        self.m = shmmap.ShmMap.create(unique_name(), capacity=entries, ephemeral=True)
        self.m.set_many((key_of(n), stamp(0)) for n in range(entries))
        try:
            self.crew = Crew(Cut(self.m.name, entries, way), 1 + WRITERS)
        except BaseException:
            remove(self.m)
            raise

    def repeat(self, number: int) -> None:
        """Write, and take copies, for a while."""
        if self.way == NOBODY:
            self.writes.append(self.crew.run(self.seconds, range(1, 1 + WRITERS)))
            return
        taken, *writes = self.crew.run(self.seconds)
        self.taken.append(taken)
        self.writes.append(writes)

    def row(self) -> Row:
        """Return what was found."""
        samples = {
            "pause_ns": [float(max(map(max, each))) for each in self.writes],
            "writes_per_s": [
                round(sum(len(times) / sum(times) for times in each) * 1e9, 1)
                for each in self.writes
            ],
        }
        if self.taken:
            samples = {
                "held_most_ns": [float(max(each.held)) for each in self.taken],
                "held_ns": [percentile(each.held, 0.5) for each in self.taken],
                "ms": [percentile(each.times, 0.5) / 1e6 for each in self.taken],
            } | samples
        problems = [each.problem for each in self.taken if each.problem]
        return Row.of(
            self.scenario, self.way, samples, "; ".join(problems[:1]), {"entries": self.entries},
            {"copies": sum(len(each.times) for each in self.taken)},
        )

    def close(self) -> None:
        """End the workers and remove the map. Idempotent."""
        self.crew.close()
        if not self.m.closed:
            remove(self.m)


SCENARIOS = (Cuts(),)
