"""Hybrid logical clocks: stamps that rise with what caused what, and stay near the wall clock.

A stamp is 64 bits: nanoseconds of the wall clock, of which the last ones count where one
nanosecond sees several, or the clock is behind; then 32 bits of whoever made it, so that no two are
equal. `next` is later than every stamp that was made or met here before. A stamp from too far ahead
is not believed: one machine with a wrong clock must not carry all others along.

The algorithm is that of Kulkarni, Demirbas, Madappa, Avva and Leone, Logical Physical Clocks
(OPODIS 2014), with the two parts in one number, as its section 6 has it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from ..memory._clock_cy import wall_ns
from ..system.process import this_process

BYTES = 12
SKEW_S = 60.0  # a stamp that is farther ahead than this is of a wrong clock


def bytes_of(time_ns: int, maker: bytes) -> bytes:
    """Return the stamp of a maker at a time."""
    return time_ns.to_bytes(8, "big") + maker


def time_of(stamp: bytes) -> int:
    """Return the nanoseconds of a stamp."""
    return int.from_bytes(stamp[:8], "big")


def latest_believed() -> int:
    """Return the last time of a stamp that is believed now."""
    return wall_ns() + int(SKEW_S * 1e9)


class Stamps:
    """Makes the stamps of one process. Threads may share it; a forked child becomes another maker.

    Args:
        now: nanoseconds of the wall clock, or of one that the machine's processes have in common.
        ahead: called with the time of each stamp that was met.

    >>> stamps = Stamps()
    >>> first, second = stamps.next(), stamps.next()
    >>> len(first), first < second
    (12, True)
    """

    def __init__(
        self, now: Callable[[], int] = wall_ns,
        ahead: Callable[[int], object] = lambda time_ns: None,
    ) -> None:
        self._now = now
        self._ahead = ahead
        self._lock = threading.RLock()  # a handler of a signal finds it its own thread's
        self._last = 0
        self._begin()

    def _begin(self) -> None:
        self._process = this_process()
        self._maker = os.urandom(BYTES - 8)

    def next(self) -> bytes:
        """Return a stamp that is later than all before."""
        if self._process != this_process():
            self._lock = threading.RLock()  # a thread of the parent's may have held it
            self._begin()
        now = self._now()
        with self._lock:
            self._last = last = max(self._last + 1, now)
        return bytes_of(last, self._maker)

    def after(self, stamp: bytes) -> bytes:
        """Return a stamp that is as little later than one as can be."""
        made = bytes_of(time_of(stamp) + 1, os.urandom(BYTES - 8))  # so no two are equal
        self.met(made)
        return made

    def met(self, stamp: bytes) -> bool:
        """Make all that come later than one that was met; False: it is not to be believed."""
        met = time_of(stamp)
        if met > self._last:
            if met > latest_believed():
                return False
            with self._lock:
                self._last = max(self._last, met)
        self._ahead(met)
        return True
