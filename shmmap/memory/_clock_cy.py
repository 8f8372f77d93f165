# mypy: ignore-errors
"""The clocks: for what all processes share, and for how long this one waits.

`Clock` is CLOCK_BOOTTIME, in integer nanoseconds. It runs on through suspend, does not follow
changes of the wall clock, and is the same in every process (a container with a time namespace of
its own sees another one: see docs/design/shard-lock.md).

`monotonic` is CLOCK_MONOTONIC. Nothing in the package measures by `time.monotonic()` or one of
its kin: tests of users stop those (freezegun, time-machine), and a timeout would never end.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import clock_ns

COMPILED = cython.compiled


class Clock:
    """Tell the time; tests freeze it by setting `frozen_ns` (-1: it runs).

    A write takes its time from `seen_ns`, which was read before the shard's lock was taken, or
    after a wait for it: to read a clock takes a third of what else a counter's lock is held for.
    """

    def __init__(self, frozen_ns=-1):
        self.frozen_ns = frozen_ns
        self.seen_ns = frozen_ns if frozen_ns >= 0 else 0

    def look(self):
        """Read the time into `seen_ns`, whatever thread comes to use it."""
        self.seen_ns = self.now()

    def now(self):
        """Return nanoseconds since boot."""
        if self.frozen_ns >= 0:
            return self.frozen_ns
        return clock_ns(7)

    def now_ns(self) -> int:
        """Return nanoseconds since boot, to Python callers."""
        return self.now()


def wall_ns() -> int:
    """Return nanoseconds of the wall clock, as time.time_ns() does where no test has stopped it."""
    return clock_ns(0)


def monotonic_ns() -> int:
    """Return nanoseconds of the clock that timeouts are measured by."""
    return clock_ns(1)


def monotonic() -> float:
    """Return seconds of the clock that timeouts are measured by."""
    return clock_ns(1) / 1e9
