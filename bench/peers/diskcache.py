"""diskcache: its Cache, and its FanoutCache of several."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from ..core.peer import Entries
from .base import StoredPeer

PATIENCE_S = 60.0
_INSERT = (
    "INSERT OR REPLACE INTO Cache (key, raw, store_time, access_time, access_count, size, mode,"
    " filename, value) VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?)"
)
_SETTINGS = {
    "eviction_policy": "none", "cull_limit": 0, "sqlite_synchronous": 0, "size_limit": 1 << 40,
    "timeout": PATIENCE_S,
}


class DiskCache(StoredPeer):
    """Cache: one sqlite database in its WAL mode."""

    name = "diskcache.Cache"
    distribution = "diskcache"
    slow = True
    shared = True
    atomic_incr = True
    setting = (
        "in /dev/shm, eviction_policy none, cull_limit 0, sqlite_synchronous 0, waits for locks; "
        "set_many in one transact()"
    )
    statements: ClassVar = {
        "get": "value = get(key)",
        "miss": "value = get(key)",
        "contains": "value = key in data",
        "set": "data[key] = value",
        "incr": "value = incr(key, 1, None, True)",
        "delete": "del data[key]",
        "get_object": "value = get(key)",
        "set_object": "data[key] = value",
        "set_many": "with transact(retry=True):\n"
                    "    for each, one in mapping.items():\n"
                    "        data[each] = one",
    }

    def open(self) -> None:
        from diskcache import Cache

        self.handle: Any = Cache(self.address, **_SETTINGS)

    def fill(self, entries: Entries) -> None:
        self._fill(self.handle, entries)

    @staticmethod
    def _fill(cache: Any, entries: Entries) -> None:
        """Write what set() would write, but in one statement: set() takes seconds for all."""
        disk, now = cache.disk, time.time()
        rows = (
            (*disk.put(key), now, now, *disk.store(value, False, key=key))
            for key, value in entries.items()
        )
        with cache.transact(retry=True):
            cache._con.executemany(_INSERT, rows)

    def names(self) -> dict[str, Any]:
        data = self.handle
        return {"data": data, "get": data.get, "incr": data.incr, "transact": data.transact}

    def shut(self) -> None:
        self.handle.close()


class FanoutCache(DiskCache):
    """FanoutCache: eight of them, so that writers meet less often."""

    name = "diskcache.FanoutCache"
    setting = (
        "8 shards (its default) in /dev/shm, eviction_policy none, cull_limit 0, "
        "sqlite_synchronous 0, waits for locks (else its writes are lost silently)"
    )
    # A transaction would have to lock all shards, so there is no set_many.
    statements: ClassVar = {
        operation: statement for operation, statement in DiskCache.statements.items()
        if operation != "set_many"
    }

    def open(self) -> None:
        from diskcache import FanoutCache as Sharded

        self.handle = Sharded(self.address, shards=8, **_SETTINGS)

    def fill(self, entries: Entries) -> None:
        shards = self.handle._shards
        parts: list[dict[str, Any]] = [{} for _ in shards]
        for key, value in entries.items():
            parts[self.handle._hash(key) % len(shards)][key] = value
        for shard, part in zip(shards, parts, strict=True):
            self._fill(shard, part)
