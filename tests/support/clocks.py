"""Clocks: one of a map that stands still until a test moves it, and one for tests that say how
long something may take, on a machine with much else to do.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

START_NS = 10**15


class FrozenClock:
    """The clock of one map in this process: it stands still."""

    def __init__(self, m: Any) -> None:
        self._clock = m.attachment.clock
        self._clock.frozen_ns = START_NS

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        self._clock.frozen_ns += round(seconds * 1e9)

    def run(self) -> None:
        """Let the real clock take over."""
        self._clock.frozen_ns = -1


def delayed_s() -> float:
    """Return for how long, in all, this thread could run and another one had the processor; 0 where
    the kernel does not tell."""
    with suppress(OSError, IndexError), open("/proc/thread-self/schedstat", "rb") as file:
        return int(file.read().split()[1]) / 1e9
    return 0.0


def now() -> float:
    """Return seconds that pass while this thread runs or waits for something, and stand still while
    it only waits for a processor."""
    return time.monotonic() - delayed_s()
