"""Waking those who wait for a lock, in whatever process, as it is left.

They sleep on the lock shard's SEQUENCE, which each release changes, for no longer than a poll would
sleep: a holder that dies wakes nobody. The word says which change was seen before a look; whoever
comes to sleep after a later one does not sleep. So a release between a look and a sleep is not
missed, and one whose wake-up is lost costs a slice.

All locks of a map share that word, and each has one of 32 bits. A release wakes one of those who
sleep for its bit: all at once would be in each other's way. That may be one who waits for another
lock, or who dies; the others look for themselves within their slice.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ShmMapError
from ..memory.layout import constants
from ..memory.words import ShardWords
from ..system import futex
from ..system.tasks import is_cooperative

if TYPE_CHECKING:
    from .hosts import MapHandle
    from .lock_table import LockShard

_SEQUENCE = constants()["S_SEQUENCE"]


class Seen(NamedTuple):
    """Where the lock shard's SEQUENCE is, and what it was."""

    address: int
    word: int


def bits_of(names: Iterable[bytes]) -> int:
    """Return what to sleep for: the bits of these locks."""
    bits = 0
    for name in names:
        bits |= 1 << (name[-1] & 31)  # of a digest
    return bits


def see(m: MapHandle) -> Seen | None:
    """Return what to sleep on, before a look; None: here nobody sleeps on it."""
    if not futex.is_there() or is_cooperative():
        return None
    try:
        with m._inside() as attached:
            buffer = attached.locks.mapping.buffer
            with ShardWords(buffer) as header:
                return Seen(futex.address_of(buffer, _SEQUENCE), header.SEQUENCE)
    except ShmMapError:  # the look that follows meets it too, and knows what it means
        return None


def sleep(seen: Seen, bits: int, seconds: float) -> bool:
    """Sleep until a lock is left, for so long at most; False: something has changed meanwhile."""
    return futex.wait(seen.address, seen.word, bits, seconds)


def wake(part: LockShard, name: bytes, at_most: int) -> None:
    """Wake who waits for a lock that was left. To be called inside; raises nothing of its own."""
    if futex.is_there():
        with suppress(Exception):  # no memory: they look for themselves
            futex.wake(futex.address_of(part.mapping.buffer, _SEQUENCE), bits_of((name,)), at_most)
