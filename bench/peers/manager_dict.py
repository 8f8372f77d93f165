"""multiprocessing.Manager().dict()."""

from __future__ import annotations

import multiprocessing
from typing import Any, ClassVar

from ..core.peer import Entries, Peer


class ManagerDict(Peer):
    """A proxy to a dict in a server process."""

    name = "Manager().dict"
    modules = ("multiprocessing.managers",)
    slow = True
    shared = True
    atomic_incr = True
    setting = "server started by spawn; incr under a multiprocessing.Lock, as it has none"
    statements: ClassVar = {
        "get": "value = get(key)",
        "miss": "value = get(key)",
        "contains": "value = key in data",
        "set": "data[key] = value",
        "incr": "with lock:\n    value = data[key] + 1\n    data[key] = value",
        "delete": "del data[key]",
        "get_object": "value = get(key)",
        "set_object": "data[key] = value",
        "set_many": "update(mapping)",
    }
    manager: Any = None

    def make(self, room: int, value_bytes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.manager = context.Manager()
        self.address = (self.manager.dict(), context.Lock())

    def open(self) -> None:
        self.handle, self.lock = self.address

    def fill(self, entries: Entries) -> None:
        self.handle.update(dict(entries))  # one message

    def names(self) -> dict[str, Any]:
        data = self.handle
        return {"data": data, "get": data.get, "update": data.update, "lock": self.lock}

    def remove(self) -> None:
        if self.manager is not None:
            self.manager.shutdown()
