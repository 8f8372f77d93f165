"""A clock for tests that say how long something may take, on a machine with much else to do."""

from __future__ import annotations

import time
from contextlib import suppress


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
