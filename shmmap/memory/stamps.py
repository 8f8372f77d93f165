"""Stamps: when an entry was written, by the wall clock, so that maps of other machines can compare.

A version is twice the nanoseconds since boot, or a little more, and of one shard. A map with
tombstones notes once, as it is made, what the wall clock said at boot (WALL_NS): a version turns
into a stamp, and back, without an error, however often the wall clock is set since.
"""

from __future__ import annotations

from ._clock_cy import Clock, wall_ns

_LOOKS = 5  # of both clocks: the one that took least tells how they stand to each other
AHEAD_NS = 86_400 * 10**9  # a stamp so far ahead is of no clock that is set right


def wall_at_boot() -> int:
    """Return what the wall clock said at boot, in nanoseconds; 0 if that was before 1970."""
    clock = Clock()
    looks = []
    for _ in range(_LOOKS):
        before, wall, after = clock.now_ns(), wall_ns(), clock.now_ns()
        looks.append((after - before, wall - (before + after) // 2))
    return max(0, min(looks)[1])


def stamp_of(version: int, wall_at_boot_ns: int) -> int:
    """Turn a version of a map into a stamp."""
    return wall_at_boot_ns + (version >> 1)


def version_at(stamp_ns: int, wall_at_boot_ns: int) -> int:
    """Return the version that has a stamp; 0: it is from before boot."""
    return max(0, stamp_ns - wall_at_boot_ns) << 1
