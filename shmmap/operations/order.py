"""The order of listings: by hash, which a map keeps when its shards move, and when another one
takes its place.

Shards divide the hashes by their top bits, so those of a map with more of them, or fewer, lie side
by side in the same order; and a map that replaces another one has its hash seed. Of one that was
unlinked, and made anew, nothing was listed before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TypeVar

from ..memory.geometry import SHARD_LIMIT

Listed = TypeVar("Listed")


def in_order(part: Callable[[int], tuple[int, list[Listed]]]) -> Iterator[Listed]:
    """Go through a map by units of the hash. `part(unit)` lists the shard that has one, from there
    on, and tells the unit after it. What is there throughout is listed once."""
    return chain.from_iterable(_parts(part))


def _parts(part: Callable[[int], tuple[int, list[Listed]]]) -> Iterator[list[Listed]]:
    unit = 0
    while unit < SHARD_LIMIT:
        unit, listed = part(unit)
        yield listed
