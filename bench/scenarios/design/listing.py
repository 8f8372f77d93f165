"""Listing a whole map while another process writes: what it takes, and what the writer pays."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from ...core.progress import Progress
from ...core.results import OURS, Row
from ...core.scenario import EXPERIMENTS, Plot, take_turns
from ...core.timing import percentile
from ...core.workloads import VALUE_BYTES, key_of
from ...load.map_traffic import own_cores, remove
from ...load.worker_pool import Crew, Work
from ...peers import unique_name

NOBODY = "(nobody lists)"
ALL_LOCKS = "copy under all locks"
ONE_LOCK = "copy under one lock"
SNAPSHOT = "snapshot"
TIMED_OUT = 3  # what a lock answers then
PATIENCE_NS = 10**10
OTHER_THREAD = 0x3000  # locks are taken in the name of a thread that does not exist
LISTER, WRITER = 0, 1


def stamp(turn: int) -> bytes:
    """Return the value that all keys get in the writer's n-th turn.

    >>> stamp(3)[:17], len(stamp(3))
    (b'0000000000000003.', 100)
    """
    return b"%016d" % turn + b"." * (VALUE_BYTES - 16)


class Pair(NamedTuple):
    """A crew's job: worker 0 lists again and again, worker 1 writes key after key in order.

    So at any one moment the first so many keys, in order, are of one turn, and all others of the
    turn before. A listing that is not so was true at no moment.
    """

    name: str
    entries: int
    design: str

    def begin(self, index: int) -> Work:
        """Attach."""
        return (Lister if index == LISTER else Writer)(self)


class Listings(NamedTuple):
    """What a lister did: nanoseconds of each, how many were true at no moment, what was wrong."""

    times: array[int]
    torn: int
    problem: str


class Lister:
    """Lists a map."""

    def __init__(self, job: Pair) -> None:
        import shmmap

        self.job = job
        self.m = shmmap.ShmMap.attach(job.name)
        self.keys = [key_of(n) for n in range(job.entries)]
        self.list_all = self._way()
        if self.list_all() != dict.fromkeys(self.keys, stamp(0)):
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
            if value != stamp(int(value[:16])):
                return f"a value that nobody wrote: {value!r}"
        return ""

    def close(self) -> None:
        """Detach."""
        self.m.close()


class Writer:
    """Writes a map, key after key; gives the nanoseconds of each write."""

    def __init__(self, job: Pair) -> None:
        import shmmap

        self.m = shmmap.ShmMap.attach(job.name)
        self.keys = [key_of(n) for n in range(job.entries)]
        self.at, self.turn = 0, 1

    def run(self, until_ns: int) -> array[int]:
        """Write until it is time."""
        put, clock, keys, at = self.m.set, time.monotonic_ns, self.keys, self.at
        value, last, times = stamp(self.turn), len(keys) - 1, array("q")
        note, before = times.append, clock()
        while not times or before < until_ns:
            put(keys[at], value)
            now = clock()
            note(now - before)
            before = now
            if at == last:
                at, self.turn = -1, self.turn + 1
                value = stamp(self.turn)
            at += 1
        self.at = at
        return times

    def close(self) -> None:
        """Detach."""
        self.m.close()


def of_one_moment(values: list[bytes]) -> bool:
    """Tell whether the values, in the order in which keys are written, were there at one moment.

    >>> of_one_moment([stamp(5), stamp(4)]), of_one_moment([stamp(4), stamp(5)])
    (True, False)
    """
    turn = int(values[0][:16])
    written = values.count(values[0])
    return values == [values[0]] * written + [stamp(turn - 1)] * (len(values) - written)


@contextmanager
def all_locks(m: Any) -> Iterator[None]:
    """Hold every shard's lock, taken in order: no write gets in between."""
    me = m.attachment.worker.fork_page.word | OTHER_THREAD
    with ExitStack() as stack:
        for number, shard in enumerate(m.attachment.shards):
            if shard.lock.lock(me, PATIENCE_NS) == TIMED_OUT:
                raise TimeoutError(f"shard {number} of {m.name} stays locked")
            stack.callback(shard.lock.unlock)
        yield


class Listing(NamedTuple):
    """Maps of several sizes, listed in several ways under one writer.

    Copies under a lock decode what they copy under it too. `torn`: see Pair.
    """

    name: str
    title: str
    plots: tuple[Plot, ...]
    family: str = EXPERIMENTS
    quick: bool = False

    def ways(self) -> tuple[str, ...]:
        """List the ways to list."""
        import shmmap

        later = (SNAPSHOT,) if hasattr(shmmap.ShmMap, SNAPSHOT) else ()
        return (OURS, ALL_LOCKS, ONE_LOCK, *later, NOBODY)

    def steps(self, setup: Any) -> int:
        """Count the progress steps."""
        scale = setup.workload.scale
        return len(scale.listing) * len(self.ways()) * int(scale.experiment_repetitions)

    def run(self, setup: Any, progress: Progress) -> list[Row]:
        """Measure every way at every size."""
        scale = setup.workload.scale
        with ExitStack() as stack:
            lanes = []
            for entries in scale.listing:
                for way in self.ways():
                    lanes.append(ListingLane(self.name, way, entries, scale.seconds))
                    stack.callback(lanes[-1].close)
            return take_turns(lanes, scale.experiment_repetitions, progress)


class ListingLane:
    """One way to list a map of one size."""

    def __init__(self, scenario: str, way: str, entries: int, seconds: float) -> None:
        import shmmap

        self.scenario, self.way, self.entries, self.seconds = scenario, way, entries, seconds
        self.listings: list[Listings] = []
        self.writes: list[array[int]] = []
        self.m = shmmap.ShmMap.create(
            unique_name(), capacity=entries, ephemeral=True, shards=1 if way == ONE_LOCK else None
        )
        self.m.set_many((key_of(n), stamp(0)) for n in range(entries))
        try:
            self.crew = Crew(Pair(self.m.name, entries, way), 2, own_cores())
        except BaseException:
            remove(self.m)
            raise

    def repeat(self, number: int) -> None:
        """List and write for a while."""
        if self.way == NOBODY:
            self.writes += self.crew.run(self.seconds, [WRITER])
            return
        listings, writes = self.crew.run(self.seconds)
        self.listings.append(listings)
        self.writes.append(writes)

    def row(self) -> Row:
        """Return what was found."""
        samples = {
            "pause_ns": [float(max(times)) for times in self.writes],
            "writes_per_s": [round(len(times) / sum(times) * 1e9, 1) for times in self.writes],
        }
        if self.listings:
            samples |= {
                "p50_ns": [percentile(each.times, 0.5) for each in self.listings],
                "p99_ns": [percentile(each.times, 0.99) for each in self.listings],
                "torn": [each.torn / len(each.times) for each in self.listings],
            }
        return Row.of(
            self.scenario, self.way, samples, self.problem(), {"entries": self.entries},
            {"listings": sum(len(each.times) for each in self.listings)},
        )

    def problem(self) -> str:
        """Say what was listed wrongly; under all locks every listing must be of one moment."""
        wrong = [each.problem for each in self.listings if each.problem]
        if not wrong and self.way != OURS and any(each.torn for each in self.listings):
            return "a listing that was true at no moment"
        return "; ".join(wrong[:1])

    def close(self) -> None:
        """End the workers and remove the map. Idempotent."""
        self.crew.close()
        if not self.m.closed:
            remove(self.m)


LISTING = Listing(
    "listing", "all entries listed while another process writes",
    (
        Plot("", "A listing: median", "entries", "p50_ns", "xy"),
        Plot("pause", "The writer's longest pause", "entries", "pause_ns", "xy"),
    ),
)
