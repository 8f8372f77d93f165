"""The order of listings: by hash, which a map keeps when another one takes its place.

Shards divide the hashes by their top bits, so those of a map with more of them, or fewer, lie side
by side in the same order; and a map that replaces another one has its hash seed. Of one that was
unlinked, and made anew, nothing was listed before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ..memory.geometry import SHARD_LIMIT

Listed = TypeVar("Listed")


def in_order(m: Any, part: Callable[[int, int], list[Listed] | None]) -> Iterator[Listed]:
    """Go through a map's shards. `part(number, shards)` lists one of so many; None: there are not
    so many any more. What is there throughout is listed once; where the map comes to have fewer
    shards meanwhile, what is in the middle of one of those may come again."""
    place = 0  # among the hashes
    while place < SHARD_LIMIT:
        shards = m._count_shards()
        number = place * shards // SHARD_LIMIT
        listed = part(number, shards)
        if listed is not None:
            yield from listed
            place = (number + 1) * SHARD_LIMIT // shards
