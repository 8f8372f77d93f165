"""What a Mirror counts: in each process, and added up in the map for all of them."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import NamedTuple

from .._public import public
from ..checks import Key
from ..errors import ShmMapError
from ..map import ShmMap
from ..memory import events

COUNTS = ("reads", "writes", "compared", "missing", "differences", "repaired", "failed", "late",
          "skipped", "unmirrored")


class Difference(NamedTuple):
    """One key that the two sides had different values of. The digests are of the values' pickles;
    "missing": there was none. `when`: time.time()."""

    when: float
    operation: str
    key: Key
    old: str
    new: str


@public
class MirrorReport(NamedTuple):
    """How a mirror stands, of all processes that share it; `missed`, `is_open` and `last`: of this
    one.

    Attributes:
        reads, writes: operations.
        compared: reads and results of writes that were compared.
        missing: those of which the new side had nothing: not filled yet, or evicted. The old side
            answers for these, so they are no differences.
        differences: those that differed, also after a while.
        repaired: how many entries the new side was corrected in.
        failed: calls of the new side that raised.
        late: those that took longer than the deadline.
        skipped: those that were not made, since the breaker was open.
        unmirrored: calls that went to the old side alone, but for those that only read; the log
            names each. What they write the new side does not know.
        equal_for: seconds since the last difference, failure, late or skipped write, or since the
            first comparison; 0 while something is missed.
        missed: entries that the new side has still to be told of; the old side is read for them.
        reads_new: whether the new side answers.
        is_open: whether this process asks the new side nothing just now.
        last: the last 100 differences.
    """

    reads: int
    writes: int
    compared: int
    missing: int
    differences: int
    repaired: int
    failed: int
    late: int
    skipped: int
    unmirrored: int
    equal_for: float
    missed: int
    reads_new: bool
    is_open: bool
    last: tuple[Difference, ...]


class Tally:
    """The counts of one process. Only `share` and `kept` write to the map, and only they can be
    held up by it."""

    def __init__(self, m: ShmMap, name: str) -> None:
        self._map = m
        self._name = name
        self._lock = threading.RLock()  # a handler of a signal finds it its own thread's
        self._counts = dict.fromkeys(COUNTS, 0)
        self._equal_from = self._unequal_at = 0.0  # time.time()
        self._unmirrored = 0  # of all processes, as was last seen: a map that evicts may forget it
        self._told: set[str] = set()
        self.is_news = False  # that all processes should hear of soon

    def count(self, what: str, number: int = 1) -> int:
        """Count once more; return how many of these are not in the map yet."""
        with self._lock:
            self._counts[what] += number
            return self._counts[what]

    def is_equal(self) -> None:
        """Note that a comparison found no difference."""
        self._equal_from = self._equal_from or time.time()  # the first one since then

    def is_unequal(self) -> None:
        """Note that the sides were not, or may not be, equal just now."""
        self._unequal_at = time.time()
        self._equal_from = 0.0
        self.is_news = True

    def _place(self, what: str) -> Key:
        return ("shmmap.mirror", self._name, what)

    def share(self) -> None:
        """Add this process's counts to those in the map. Where it is in the way, they wait: it is
        not tried for each of them."""
        unequal, equal = self._unequal_at, self._equal_from
        with suppress(ShmMapError):
            for what in COUNTS:
                number = self._counts[what]
                if number:
                    self._map.incr(self._place(what), number, ttl=None)
                    self.count(what, -number)
            there = self._map.get(self._place("unmirrored"), 0)
            if there < self._unmirrored:
                self._map.incr(self._place("unmirrored"), self._unmirrored - there, ttl=None)
            self._unmirrored = max(there, self._unmirrored)
            self.is_news = False
            self._share_since(unequal, equal)
            self._unequal_at = 0.0 if self._unequal_at == unequal else self._unequal_at

    def _share_since(self, unequal: float, equal: float) -> None:
        """Note since when the sides are equal: the latest that any process says. A clock that was
        put back has left a time to come, which counts as now."""
        place, now = self._place("since"), time.time()
        if unequal:
            self._map.apply(place, lambda at: min(max(at, unequal), now), unequal, None)
        elif equal and not self._map.add(place, equal, ttl=None) and self._map.get(place, 0) > now:
            self._map.apply(place, lambda at: min(at, now), now, None)

    def totals(self) -> tuple[dict[str, int], float]:
        """Return the counts of all processes, and since when the sides are equal (time.time(); 0:
        nothing was compared yet, or nobody knows, since the map cannot be read)."""
        known = False
        total = dict(self._counts)
        since, unequal = self._equal_from, self._unequal_at  # first: `share` takes the second away
        with suppress(ShmMapError):
            for what in COUNTS:
                total[what] += self._map.get(self._place(what), 0)
            since = self._map.get(self._place("since"), since)
            total["unmirrored"] = max(total["unmirrored"], self._unmirrored)
            known = True
        return total, max(since, unequal, self._unequal_at) if known else 0.0

    def kept(self) -> dict[str, float]:
        """Return what is in the map, to be given to `keep` after all of it was cleared."""
        found = {what: self._map.get(self._place(what)) for what in (*COUNTS, "since")}
        return {what: number for what, number in found.items() if number}

    def keep(self, kept: dict[str, float]) -> None:
        """Put back what a clear has removed: the map may be the new side itself."""
        since = kept.pop("since", 0.0)
        for what, number in kept.items():
            if self._map.get(self._place(what), 0) < number:
                self._map.incr(self._place(what), number, ttl=None)
        if since:
            self._share_since(since, 0.0)

    def write_down(self) -> None:
        """Write down, in the map, that the sides differ."""
        events.note_in(self._map, "mismatch")

    def tell(self, what: str, text: str) -> None:
        """Log it, the first time."""
        if what not in self._told:
            self._told.add(what)
            logging.getLogger("shmmap").warning("mirror %r: %s. Told once", self._name, text)
