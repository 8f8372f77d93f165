"""shared-memory-dict: one pickle of everything in shared memory."""

from __future__ import annotations

import multiprocessing
import textwrap
from typing import Any, ClassVar

from ..core.peer import Entries, Peer, unique_name
from ..core.workloads import KEY_BYTES

_PLAIN = {
    "get": "value = data[key]",
    "miss": "value = get(key)",
    "contains": "value = key in data",
    "set": "data[key] = value",
    "incr": "value = data[key] + 1\ndata[key] = value",
    "delete": "del data[key]",
    "get_object": "value = data[key]",
    "set_object": "data[key] = value",
    "get_many": "found = dict(data.items())\nvalue = {key: found[key] for key in keys}",
    "set_many": "update(mapping)",
}


class SharedMemoryDictPeer(Peer):
    """SharedMemoryDict under a lock that all processes share."""

    name = "shared-memory-dict"
    distribution = "shared-memory-dict"
    modules = ("shared_memory_dict",)
    slow = True
    shared = True
    atomic_incr = True
    most_entries = 2_000
    setting = (
        "2,000 entries at most: each operation unpickles all there are; every statement under a "
        "multiprocessing.Lock, as its own (SHARED_MEMORY_USE_LOCK=1) is let go before the change "
        "begins and is none between spawned processes; memory no larger than needed, as each "
        "read copies all of it"
    )
    statements: ClassVar = {
        operation: f"with lock:\n{textwrap.indent(statement, '    ')}"
        for operation, statement in _PLAIN.items()
    }

    def make(self, room: int, value_bytes: int) -> None:
        size = room * (value_bytes + KEY_BYTES + 24) + 4096
        lock = multiprocessing.get_context("spawn").Lock()
        self.address = (unique_name(), size, lock)

    def open(self) -> None:
        from shared_memory_dict import SharedMemoryDict

        name, size, self.lock = self.address
        self.handle = SharedMemoryDict(name, size)

    def fill(self, entries: Entries) -> None:
        self.handle.update(entries)

    def names(self) -> dict[str, Any]:
        data = self.handle
        return {"data": data, "get": data.get, "update": data.update, "lock": self.lock}

    def shut(self) -> None:
        if self.made:
            self.handle.shm.unlink()
        self.handle.cleanup()
