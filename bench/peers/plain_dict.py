"""dict, and dict with a lock: nothing is shared."""

from __future__ import annotations

import textwrap
import threading
from typing import Any, ClassVar

from ..core.peer import Entries, Peer


class Dict(Peer):
    """A dict of this process: the floor. It meets the very key objects it was filled with."""

    name = "dict"
    setting = "one process's own; the very key objects it was filled with; objects are not copied"
    statements: ClassVar = {
        "get": "value = get(key)",
        "miss": "value = get(key)",
        "contains": "value = key in data",
        "set": "data[key] = value",
        "incr": "value = data[key] = data[key] + 1",
        "delete": "del data[key]",
        "get_object": "value = get(key)",
        "set_object": "data[key] = value",
        "get_many": "value = {key: data[key] for key in keys}",
        "set_many": "update(mapping)",
    }

    def open(self) -> None:
        self.handle: dict[str, Any] = {}

    def fill(self, entries: Entries) -> None:
        self.handle.update(entries)

    def names(self) -> dict[str, Any]:
        return {"data": self.handle, "get": self.handle.get, "update": self.handle.update}


class DictLock(Dict):
    """The same with the lock that the threads of one process need."""

    name = "dict+Lock"
    setting = "as dict, each statement in `with lock:` of a threading.Lock"
    statements: ClassVar = {
        operation: f"with lock:\n{textwrap.indent(statement, '    ')}"
        for operation, statement in Dict.statements.items()
    }

    def names(self) -> dict[str, Any]:
        return {**super().names(), "lock": threading.Lock()}
