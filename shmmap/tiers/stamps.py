"""Hybrid logical clocks: stamps that rise with what caused what, and stay near the wall clock.

A stamp is 64 bits: milliseconds of the wall clock, then a count of 16 bits, which tells apart what
one millisecond sees; then 32 bits of whoever made it, so that no two are equal. `next` is later
than every stamp that was made or met here before. A stamp from too far ahead is not believed: one
machine with a wrong clock must not carry all others along.

The algorithm is that of Kulkarni, Demirbas, Madappa, Avva and Leone, Logical Physical Clocks
(OPODIS 2014), with the two parts in one number, as its section 6 has it.
"""

from __future__ import annotations

import os
import threading

from ..memory._clock_cy import wall_ns
from ..system.process import this_process

BYTES = 12
COUNT_BITS = 16
SKEW_S = 60.0  # a stamp that is farther ahead than this is of a wrong clock


def now_part(ns: int) -> int:
    """Return the first stamp of the millisecond that a time of the wall clock lies in."""
    return ns // 1_000_000 << COUNT_BITS


class Stamps:
    """Makes the stamps of one process. Threads may share it; a forked child becomes another maker.

    >>> stamps = Stamps()
    >>> first, second = stamps.next(), stamps.next()
    >>> len(first), first < second
    (12, True)
    """

    def __init__(self) -> None:
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
        with self._lock:
            self._last = last = max(self._last + 1, now_part(wall_ns()))
        return last.to_bytes(8, "big") + self._maker

    def met(self, stamp: bytes) -> bool:
        """Make all that come later than one that was met; False: it is not to be believed."""
        met = int.from_bytes(stamp[:8], "big")
        if met > self._last:
            if met > now_part(wall_ns() + int(SKEW_S * 1e9)):
                return False
            with self._lock:
                self._last = max(self._last, met)
        return True
