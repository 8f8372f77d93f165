"""How long a process that only wants to sleep a millisecond is kept waiting by this machine.

A survivor's wait has two causes: the dead holder, and that the machine runs someone else. What
the second one amounts to is measured here, in the same run, and reported beside the waits.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable

from .ledger import now_ns

_PAUSE_S = 0.001
_BUCKETS = 64  # of delays, by their length in microseconds, in powers of two


class Heartbeat:
    """The shared words of one such process."""

    def __init__(self) -> None:
        self._buffer = mmap.mmap(-1, (_BUCKETS + 1) * 8)
        self._words = memoryview(self._buffer).cast("Q")

    def beat(self, ended: Callable[[], bool]) -> None:
        """Sleep again and again, and note by how much it was too long."""
        words = self._words
        pause_ns = int(_PAUSE_S * 1e9)
        while not ended():
            began = now_ns()
            time.sleep(_PAUSE_S)
            delay = max(0, now_ns() - began - pause_ns)
            words[(delay // 1000).bit_length()] += 1
            words[_BUCKETS] = max(words[_BUCKETS], delay)

    def longest_ms(self) -> float:
        """Return the longest delay."""
        return self._words[_BUCKETS] / 1e6

    def share_below_ms(self, share: float) -> float:
        """Return a bound, a power of two in microseconds, below which this share of delays is."""
        counts = self._words[:_BUCKETS].tolist()
        wanted, seen = share * sum(counts), 0
        for bucket, count in enumerate(counts):
            seen += count
            if seen >= wanted:
                return (1 << bucket) / 1000
        return 0.0
