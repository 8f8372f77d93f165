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
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from ..checks import Key
from ..map import ShmMap
from ..memory._clock_cy import Clock, wall_ns
from .stamps import BYTES, bytes_of, latest_believed
from .store_keys import RESERVED

PLACE: Key = (RESERVED, "clock")
_STEP_NS = 1_000_000  # that the wall clock may be ahead
_MAKER_BYTES = BYTES - 8


class Offset(NamedTuple):
    """Of the wall clock to the time since boot, in nanoseconds; `maker` stands for it."""

    ns: int
    maker: bytes

    def stamp_of(self, version: int) -> bytes:
        """Return the stamp of a version of the journal's map."""
        return bytes_of((version >> 1) + self.ns, self.maker)


class MachineClock:
    """The clock of a journal's map."""

    def __init__(self, m: ShmMap) -> None:
        self._map = m
        self._since_boot = Clock().now_ns
        self._seen = 0  # an offset that there has been: what is there is this one, or higher

    def offset(self) -> Offset:
        """Return the offset, which is at least that of the wall clock."""
        wall = wall_ns() - self._since_boot()
        found, _ = self._look()
        return found if found.ns >= wall - _STEP_NS else self._raise_to(wall)

    def now(self) -> int:
        """Return nanoseconds of this clock; it may be read through by all processes."""
        return self._since_boot() + self.offset().ns

    def met(self, time_ns: int) -> None:
        """Have all that is written on this machine from now on be later than such a stamp."""
        at_least = time_ns - self._since_boot() + 1
        if at_least > self._seen and time_ns <= latest_believed():
            self._raise_to(at_least)

    def _look(self) -> tuple[Offset, int]:
        found: Any
        found, version = self._map.get_versioned(PLACE)
        if isinstance(found, bytes) and len(found) == 8 + _MAKER_BYTES:
            offset = Offset(int.from_bytes(found[:8], "big", signed=True), found[8:])
            self._seen = max(self._seen, offset.ns)
            return offset, version
        return Offset(-1 << 63, b""), version

    def _raise_to(self, at_least: int) -> Offset:
        while True:
            found, version = self._look()
            if found.ns >= at_least:
                return found
            raised = Offset(at_least, os.urandom(_MAKER_BYTES))
            data = raised.ns.to_bytes(8, "big", signed=True) + raised.maker
            if self._map.cas(PLACE, data, version, None):
                return raised
