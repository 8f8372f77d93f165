"""The handle that simulated processes use: the engine's, and two ways of reading more."""

from __future__ import annotations

from typing import Any

from shmmap._codecs_cy import pack as pack_value
from shmmap._keys_cy import encode
from shmmap._keys_cy import pack as pack_key
from shmmap._reads_cy import MISSING
from shmmap._snapshots_cy import Snapshots
from shmmap._words import Key, Probe


class SimulatedHandle(Snapshots):
    """A handle on a simulated map."""

    def __init__(self) -> None:
        self.near_cache: dict[str, tuple[int, int, Any]] = {}  # key: slot, version, value

    def contains(self, key: str) -> bool:
        """Tell whether a key is there."""
        return key in self

    def merge(self, key: str, value: Any, limit: int, ttl: float | None) -> bool:
        """Write an entry as a merge does, if the one that is there is older than `limit`."""
        deadline_ns = self.deadline_ns(ttl)
        return self._write_raw(*pack_key(key), *pack_value(value), deadline_ns, limit)

    def near(self, key: str, default: Any) -> Any:
        """Read as a cache in the process does: it holds a value for as long as its slot has
        the version that it came with, and asks for nothing else."""
        if key in self.near_cache:
            slot, version, value = self.near_cache[key]
            if self.shards[0].slots.version(slot) == version:
                return value
        found, packed = Probe(), Key()
        encode(key, self.seed, packed)
        raw = self.fetch(packed, found, True)
        if raw is MISSING:
            return default
        value = self.value_of(raw, found)
        self.near_cache[key] = found.slot, found.version, value
        return value
