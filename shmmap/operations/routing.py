"""The shards that a process goes by, as a list by the top bits of the hash; and what has an
operation begin again with another one of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..errors import MapUnlinked
from ..memory.geometry import SHARD_LIMIT

if TYPE_CHECKING:
    from ..shard._shard_cy import Shard


class ShardMoved(MapUnlinked):
    """The entries of a shard are in another one by now, and the handle goes by that: begin again.
    Each operation does; nobody outside sees this. A MapUnlinked, since what takes that for a reason
    to begin again does so here, too."""


def at_unit(shards: list[Shard], unit: int) -> Shard:
    """Return the shard of a route that has a unit of the hash: see `memory.table`."""
    return shards[unit * len(shards) // SHARD_LIMIT]


def distinct(shards: list[Shard]) -> list[Shard]:
    """Return the shards of a route, each once, in order. One that has moved may stand between those
    that came after it, while only some of these are known."""
    return list(dict.fromkeys(shards))


def spread(shards: Iterable[Shard]) -> list[Shard]:
    """Make routes of shards, each given once, in the order of the hash: a power of two of them."""
    given = list(shards)
    most = max([shard.shard_bits for shard in given])
    return [shard for shard in given for _ in range(1 << most - shard.shard_bits)]
