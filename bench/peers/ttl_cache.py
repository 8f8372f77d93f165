"""cachetools.TTLCache with a lock."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

from ..core.peer import Entries, Peer


class TTLCacheLock(Peer):
    """TTLCache with the lock that threads need, and its fastest way to read."""

    name = "TTLCache+lock"
    distribution = "cachetools"
    setting = "room for twice the entries, ttl 3600; `with lock:` and a subscript, inline"
    statements: ClassVar = {
        "get": "with lock:\n    value = data[key]",
        "miss": "with lock:\n    value = get(key)",
        "contains": "with lock:\n    value = key in data",
        "set": "with lock:\n    data[key] = value",
        "incr": "with lock:\n    value = data[key] = data[key] + 1",
        "delete": "with lock:\n    del data[key]",
        "get_object": "with lock:\n    value = data[key]",
        "set_object": "with lock:\n    data[key] = value",
        "get_many": "with lock:\n    value = {key: data[key] for key in keys}",
        "set_many": "with lock:\n    update(mapping)",
    }

    def make(self, room: int, value_bytes: int) -> None:
        from cachetools import TTLCache

        self.handle: Any = TTLCache(maxsize=2 * room, ttl=3600)

    def fill(self, entries: Entries) -> None:
        self.handle.update(entries)

    def names(self) -> dict[str, Any]:
        data = self.handle
        return {"data": data, "get": data.get, "update": data.update, "lock": threading.Lock()}
