"""The clock by which a machine orders what its processes have written, and the store has not yet.

A write's place in the order of its key is the version that the journal's map has given it, under
the lock of its shard: nanoseconds since boot, unique and rising. A stamp of it is that version,
put forward by an offset to the wall clock, and a number that stands for this offset. Both lie in
one entry of the journal's map. The offset never falls, and rises

    - as the wall clock is ahead of it
    - as a stamp of another machine is met that is ahead of it: what is written next is later

So whatever offset two stamps of one key were made by, if the later write's has the newer offset
its stamp is the later one. If it has the older one, it may not be: who finds a later stamp in the
store looks whether the offset has risen, and tries once more, by the new one.

Where the wall clock was ahead once, or a stamp that was met, the offset is led back to it: the
clock goes at half its rate, as adjtime has it, and never back, from LEAD_NS after that was said on.
Whoever has read the offset before makes no stamp by it that late. What was led back is taken off
when nothing waits any more that was written before: else what waits would be put before what it
has overwritten.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from ..checks import Key
from ..map import ShmMap
from ..memory._clock_cy import Clock, wall_ns
from .stamps import BYTES, bytes_of, latest_believed
from .store_keys import RESERVED

PLACE: Key = (RESERVED, "clock")
_STEP_NS = 1_000_000  # that the wall clock may be ahead
AHEAD_NS = 100_000_000  # that the offset may be ahead for good
LEAD_NS = 5_000_000_000  # more than what is sent may be under way: see `draining`
_WORD, _MAKER_BYTES = 8, BYTES - 8


class Offset(NamedTuple):
    """Of the wall clock to the time since boot, in nanoseconds; `maker` stands for it.

    Attributes:
        since, excess: from that time since boot on, this clock goes at half its rate, until it has
            been led back so far; 0, 0: it goes at its full rate.
    """

    ns: int
    since: int
    excess: int
    maker: bytes

    def led_back(self, time_ns: int) -> int:
        """Return how far it has been led back at a time since boot."""
        return min(max(0, time_ns - self.since) // 2, self.excess)

    def at(self, time_ns: int) -> int:
        """Return the offset at a time since boot."""
        return self.ns - self.led_back(time_ns)

    def stamp_of(self, version: int) -> bytes:
        """Return the stamp of a version of the journal's map: later for later ones."""
        time_ns = version >> 1
        late = time_ns - self.since
        second = 0 < late <= 2 * self.excess and not late % 2  # of two that have the same time
        maker = self.maker[:-1] + bytes((self.maker[-1] & 0xFE | second,))
        return bytes_of(time_ns + self.at(time_ns), maker)

    def packed(self) -> bytes:
        """Return its bytes."""
        words = (self.ns, self.since, self.excess)
        return b"".join(word.to_bytes(_WORD, "big", signed=True) for word in words) + self.maker


_NONE = Offset(-1 << 63, 0, 0, b"")


class MachineClock:
    """The clock of a journal's map."""

    def __init__(self, m: ShmMap) -> None:
        self._map = m
        self._since_boot = Clock().now_ns
        self._seen = _NONE  # what there has been; what is there is this one, or higher
        self._seen_until = 0  # from then on it may have been led back

    def offset(self) -> Offset:
        """Return the offset, which is at least that of the wall clock."""
        return self._of(self._since_boot())

    def _of(self, now: int) -> Offset:
        wall = wall_ns() - self._since_boot()
        found, _ = self._look()
        return found if found.at(now) >= wall - _STEP_NS else self._raise_to(wall, now)

    def now(self) -> int:
        """Return nanoseconds of this clock; it may be read through by all processes."""
        now = self._since_boot()
        return now + self._of(now).at(now)

    def met(self, time_ns: int) -> None:
        """Have all that is written on this machine from now on be later than such a stamp."""
        now = self._since_boot()
        at_least = time_ns - now + 1
        if (now > self._seen_until or at_least > self._seen.at(now)) and (
            time_ns <= latest_believed()
        ):
            self._raise_to(at_least, now)

    def rest(self, since: int, is_empty: Callable[[], bool]) -> None:
        """Lead it back, if it is ahead. `is_empty` tells whether nothing waits that was written
        before `since`, in nanoseconds since boot."""
        found, version = self._look()
        if found.excess:
            if since > found.since + 2 * found.excess and is_empty():  # then it has been
                self._put(Offset(found.ns - found.excess, 0, 0, found.maker), version)
            return
        now = self._since_boot()
        ahead = found.ns - (wall_ns() - now)
        if version and ahead > AHEAD_NS:
            self._put(Offset(found.ns, now + LEAD_NS, ahead, found.maker), version)

    def _look(self) -> tuple[Offset, int]:
        looked = self._since_boot()
        found: Any
        found, version = self._map.get_versioned(PLACE)
        if not isinstance(found, bytes) or len(found) != 3 * _WORD + _MAKER_BYTES:
            return _NONE, version
        ns, since, excess = (
            int.from_bytes(found[at:at + _WORD], "big", signed=True) for at in (0, 8, 16))
        offset = Offset(ns, since, max(0, excess), found[3 * _WORD:])
        self._seen, self._seen_until = offset, looked + LEAD_NS // 2
        return offset, version

    def _raise_to(self, at_least: int, now: int) -> Offset:
        """Have the offset be so high at a time since boot."""
        while True:
            found, version = self._look()
            lacks = at_least - found.at(now)
            if lacks <= 0:
                return found
            raised = Offset(found.ns + lacks, found.since, found.excess, found.maker)
            if (put := self._put(raised, version)) is not None:
                return put

    def _put(self, offset: Offset, version: int) -> Offset | None:
        """Write it in the place of one that had a version; None: that has changed."""
        made = offset._replace(maker=os.urandom(_MAKER_BYTES))
        return made if self._map.cas(PLACE, made.packed(), version, None) else None
