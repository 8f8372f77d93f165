"""The map itself, made so that it holds a known number of entries, asked what the policies are."""

from __future__ import annotations

from typing import Any

from ..core.peer import unique_name
from ..peers.own_map import remove

MODES = {"shmmap": None, "shmmap, 1 shard": 1}  # name -> shards


class RealMap:
    """A map with on_full="evict", small values and so many shards (None: as many as by default).

    A shard of S slots holds S - 1 entries of one slot, since one slot stays in reserve. The
    capacity asked for is the largest with which the map holds at most the entries wanted, so
    `entries`, what it really holds, is a little less; every policy gets exactly that many.
    """

    def __init__(self, wanted: int, shards: int | None) -> None:
        import shmmap

        self.shards = shards or default_shards(wanted)
        self.handle = shmmap.ShmMap.create(
            unique_name(), capacity=fitting_capacity(wanted, self.shards), shards=self.shards,
            value_size=8, on_full="evict", ephemeral=True, sweep_interval=None,
        )
        shape = self.handle.attachment.geometry
        self.entries = shape.shards * (shape.slots - 1)

    def replay(self, keys: list[int]) -> int:
        """Ask for each key, write it where it is missed; count the hits."""
        m, hits = self.handle, 0
        get = m.get
        for key in keys:
            if get(key) is None:
                m[key] = key
            else:
                hits += 1
        return hits

    def problem(self, keys: list[int], hits: int) -> str:
        """Tell what is wrong after a replay; "": nothing."""
        stats = self.handle.stats()
        if stats.hits != hits or stats.misses != len(keys) - hits:
            return f"{hits:,} hits in {len(keys):,} reads, stats say {stats.hits:,}"
        if len(self.handle) > self.entries:
            return f"{len(self.handle):,} entries in a map for {self.entries:,}"
        if stats.writes - stats.evicted != len(self.handle):
            return f"{stats.writes:,} written, {stats.evicted:,} evicted, {len(self.handle):,} left"
        wrong = [key for key, value in self.handle.items() if key != value]
        return f"{len(wrong):,} wrong values" if wrong else ""

    def close(self) -> None:
        """Remove the map."""
        remove(self.handle)


def default_shards(entries: int) -> int:
    """Return the shards that capacity= gives so many entries."""
    from shmmap.memory.geometry import plan_capacity

    return plan_capacity(entries, None, 8, 16, True).shards


def fitting_capacity(entries: int, shards: int) -> int:
    """Return the largest capacity= with which a map holds at most so many entries of one slot."""
    from shmmap.memory.geometry import plan_capacity

    def holds(capacity: int) -> int:
        plan = plan_capacity(capacity, shards, 8, 16, True)
        return plan.shards * (plan.slots - 1)

    low, high = 1, entries
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle) <= entries:
            low = middle
        else:
            high = middle - 1
    return low


def describe(handle: Any) -> dict[str, int]:
    """Return the facts of a map that are told with its hit ratio."""
    stats = handle.stats()
    return {"shards": len(stats.shard_entries), "evicted": stats.evicted}
