"""What is read of the maps at one time, and what it comes to between two times."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import NamedTuple

from ...errors import ShmMapError
from ...lifecycle import control
from ...lifecycle.event_ring import Event
from ...lifecycle.timings import Histogram, read_timings
from ...memory._clock_cy import monotonic
from .. import happenings, inspection
from ..seen import SeenMap

KEPT = 60  # hit ratios of a map, for its history
_REMOVED = ("evicted", "expired", "aged", "repairs")


class Reading(NamedTuple):
    """A map at one time.

    Attributes:
        label: its name, and its flavour where that is not this process's.
        nonce: the number of its making; 0: it cannot be read.
        counts: what has happened to it, by kind; {}: it cannot be read.
        shards: live entries of each.
        workers: pids of the live processes that use it; None: that cannot be told.
        latency: how long operations took so far: see `Stats`.
        events: the last ones, the oldest first.
    """

    label: str
    state: str
    nonce: int = 0
    size: int = 0
    allocated: int = 0
    live_bytes: int = 0
    slots: int = 0
    free_slots: int = 0
    counts: Mapping[str, int] = MappingProxyType({})
    shards: tuple[int, ...] = ()
    workers: tuple[int, ...] | None = None
    moving: str = ""
    latency: Mapping[str, Histogram] = MappingProxyType({})
    events: tuple[Event, ...] = ()

    @property
    def entries(self) -> int:
        """Live entries."""
        return sum(self.shards)

    @property
    def fill(self) -> float:
        """The share of the cells that is in use."""
        return 1 - self.free_slots / self.slots if self.slots else 0.0


def read(names: Iterable[str] = ()) -> list[Reading]:
    """Read these maps, or all of this machine, without joining them."""
    return [_read(one) for one in inspection.find_named(names)]


def _read(seen: SeenMap) -> Reading:
    workers = None if seen.workers is None else tuple(worker.pid for worker in seen.workers)
    outside = Reading(seen.label, seen.state, allocated=seen.allocated, workers=workers)
    if seen.control is None or seen.state not in ("ready", inspection.LINGERS):
        return outside
    with suppress(ShmMapError, OSError):  # it went meanwhile
        shards = inspection.shards_of(seen)
        sums = inspection.sums_of(shards)
        counts = inspection.counters_of(seen.control) | {name: sums[name] for name in _REMOVED}
        return outside._replace(
            nonce=seen.control.NONCE,
            size=control.geometry_of(seen.control).total_bytes,
            live_bytes=sums["live_bytes"],
            slots=sum(shard.shape.slots for shard in shards),
            free_slots=sums["free_slots"],
            counts=counts, shards=tuple(shard.entries for shard in shards),
            moving=inspection.move_in_words(seen.control),
            latency=read_timings(seen.control), events=tuple(happenings.events_of(seen)),
        )
    return outside


class Line(NamedTuple):
    """A map between two readings.

    Attributes:
        now: the later one.
        per_s: what happened in a second, by kind; {}: there is one reading only.
        hit_ratio: of the reads in between; None: there was none.
        history: hit ratios before, the newest last.
        latency: how long the operations in between took; of one reading only: all so far.
    """

    now: Reading
    per_s: dict[str, float]
    hit_ratio: float | None
    history: tuple[float | None, ...]
    latency: Mapping[str, Histogram] = MappingProxyType({})

    @property
    def reads(self) -> float:
        """Reads in a second."""
        return self.per_s.get("hits", 0.0) + self.per_s.get("misses", 0.0)


class Watch:
    """Reads maps again and again, and tells what has happened since the time before."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = tuple(names)
        self._before: dict[tuple[str, int], Reading] = {}
        self._at = 0.0
        self._history: dict[tuple[str, int], deque[float | None]] = {}

    def look(self) -> list[Line]:
        """Read them; return a line a map."""
        now, found = monotonic(), read(self._names)
        lines = [self._line(one, now - self._at) for one in found]
        self._before = {(one.label, one.nonce): one for one in found}
        self._history = {place: kept for place, kept in self._history.items()
                         if place in self._before}
        self._at = now
        return lines

    def _line(self, now: Reading, seconds: float) -> Line:
        place = now.label, now.nonce
        before = self._before.get(place)
        if before is None or not now.counts or not before.counts or seconds <= 0:
            return Line(now, {}, None, (), now.latency)
        # a damaged count, or a worker that ends between two looks, may have one fall
        per_s = {name: max(0, count - before.counts[name]) / seconds
                 for name, count in now.counts.items()}
        reads = per_s["hits"] + per_s["misses"]
        ratio = per_s["hits"] / reads if reads else None
        kept = self._history.setdefault(place, deque(maxlen=KEPT))
        kept.append(ratio)
        latency = {name: one.since(before.latency[name]) for name, one in now.latency.items()}
        return Line(now, per_s, ratio, tuple(kept), latency)
