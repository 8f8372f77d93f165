"""What does it take to list a whole map while another process writes, and what does that one pay?

Maps of several sizes are listed in several ways under one writer. Copies under a lock decode what
they copy under it too.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from typing import Any, NamedTuple

from ...core.machine import own_cores
from ...core.progress import Progress
from ...core.results import OURS, Row
from ...core.scenario import Plot, Scenario, Setup, take_turns
from ...core.timing import percentile
from ...core.workloads import key_of
from ...load.ordered_writes import (
    ALL_LOCKS,
    NOBODY,
    SNAPSHOT,
    OrderedWriter,
    WatchedWriters,
    turn_value,
)
from ...load.worker_pool import Work
from ...peers.own_map import all_locks
from ..families import THE_MAP_ITSELF

ONE_LOCK = "copy under one lock"
LISTER = 0


def keys_of(entries: int) -> list[str]:
    """Return all keys, in the order in which they are written."""
    return [key_of(n) for n in range(entries)]


class ListingJob(NamedTuple):
    """A pool's job: worker 0 lists again and again, worker 1 writes."""

    name: str
    entries: int
    design: str

    def begin(self, index: int) -> Work:
        """Attach."""
        if index == LISTER:
            return Lister(self)
        return OrderedWriter(self.name, keys_of(self.entries))


class Listings(NamedTuple):
    """What a lister did: nanoseconds of each, how many were true at no moment, what was wrong."""

    times: array[int]
    torn: int
    problem: str


class Lister:
    """Lists a map."""

    def __init__(self, job: ListingJob) -> None:
        import shmmap

        self.job = job
        self.m = shmmap.ShmMap.attach(job.name)
        self.keys = keys_of(job.entries)
        self.list_all = self._way()
        if self.list_all() != dict.fromkeys(self.keys, turn_value(0)):
            raise ValueError("the map was not filled")

    def _way(self) -> Callable[[], dict[str, bytes]]:
        m: Any = self.m
        if self.job.design == SNAPSHOT:
            return lambda: dict(m.snapshot())

        def copy() -> dict[str, bytes]:
            with all_locks(m):
                return dict(m.items())

        return copy if self.job.design in (ALL_LOCKS, ONE_LOCK) else lambda: dict(m.items())

    def run(self, until_ns: int) -> Listings:
        """List, and verify each listing while the clock stands."""
        times, torn, problem = array("q"), 0, ""
        while not times or time.monotonic_ns() < until_ns:
            begin = time.monotonic_ns()
            listed = self.list_all()
            times.append(time.monotonic_ns() - begin)
            problem = problem or self.wrong(listed)
            torn += not problem and not of_one_moment([listed[key] for key in self.keys])
        return Listings(times, torn, problem)

    def wrong(self, listed: dict[str, bytes]) -> str:
        """Say what no listing may show; "": nothing. All keys are there throughout."""
        if listed.keys() != set(self.keys):
            return f"{len(listed)} of {len(self.keys)} keys were listed"
        for value in set(listed.values()):
            if value != turn_value(int(value[:16])):
                return f"a value that nobody wrote: {value!r}"
        return ""

    def close(self) -> None:
        """Detach."""
        self.m.close()


def of_one_moment(values: list[bytes]) -> bool:
    """Tell whether the values, in the order in which keys are written, were there at one moment.

    >>> of_one_moment([turn_value(5), turn_value(4)]), of_one_moment([turn_value(4), turn_value(5)])
    (True, False)
    """
    turn = int(values[0][:16])
    written = values.count(values[0])
    return values == [values[0]] * written + [turn_value(turn - 1)] * (len(values) - written)


class Listing(NamedTuple):
    """Every way at every size. `torn`: the share of listings that were true at no moment."""

    name: str
    title: str
    plots: tuple[Plot, ...]
    family: str = THE_MAP_ITSELF
    quick: bool = False

    def ways(self) -> tuple[str, ...]:
        """List the ways to list."""
        import shmmap

        later = (SNAPSHOT,) if hasattr(shmmap.ShmMap, SNAPSHOT) else ()
        return (OURS, ALL_LOCKS, ONE_LOCK, *later, NOBODY)

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        points = len(setup.scale.listing) * len(self.ways())
        return points * setup.scale.experiment_repetitions

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Measure every way at every size."""
        scale = setup.scale
        lanes = (
            ListingLane(self.name, way, entries, scale.seconds)
            for entries in scale.listing
            for way in self.ways()
        )
        return take_turns(lanes, scale.experiment_repetitions, progress)


class ListingLane(WatchedWriters):
    """One way to list a map of one size."""

    read: list[Listings]

    def __init__(self, scenario: str, way: str, entries: int, seconds: float) -> None:
        super().__init__(
            scenario, way, entries, seconds, lambda name: ListingJob(name, entries, way), 1,
            shards=1 if way == ONE_LOCK else None, cores=own_cores(),
        )

    def row(self) -> Row:
        """Return what was found."""
        samples = self.writing()
        if self.read:
            samples |= {
                "p50_ns": [percentile(each.times, 0.5) for each in self.read],
                "p99_ns": [percentile(each.times, 0.99) for each in self.read],
                "torn": [each.torn / len(each.times) for each in self.read],
            }
        return Row.of(
            self.scenario, self.way, samples, self.problem(), {"entries": self.entries},
            {"listings": sum(len(each.times) for each in self.read)},
        )

    def problem(self) -> str:
        """Say what was listed wrongly; under all locks every listing must be of one moment."""
        wrong = [each.problem for each in self.read if each.problem]
        if not wrong and self.way != OURS and any(each.torn for each in self.read):
            return "a listing that was true at no moment"
        return "; ".join(wrong[:1])


LISTING = Listing(
    "listing", "all entries listed while another process writes",
    (
        Plot("", "A listing: median", "entries", "p50_ns", "xy"),
        Plot("pause", "The writer's longest pause", "entries", "pause_ns", "xy"),
    ),
)
SCENARIOS: tuple[Scenario, ...] = (LISTING,)
