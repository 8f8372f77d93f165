"""gunicorn's stash: tables in the arbiter of its dirty workers."""

from __future__ import annotations

import multiprocessing
import sys
from typing import Any, ClassVar

from ..core.peer import Entries
from .base import ServedPeer

# The stash needs the arbiter only: no dirty workers, no HTTP. An arbiter leaves when the process
# that made it is no more its parent; here that is whoever started this program.
ARBITER = """
import os, sys
from gunicorn.config import Config
from gunicorn.dirty.arbiter import DirtyArbiter
from gunicorn.glogging import Logger
config = Config()
config.set("loglevel", "warning")
arbiter = DirtyArbiter(config, Logger(config), socket_path=sys.argv[1])
arbiter.ppid = os.getppid()
arbiter.run()
"""
_TABLE = "bench"


class GunicornStash(ServedPeer):
    """A stash that is asked as a worker asks it: over the arbiter's socket."""

    name = "gunicorn stash"
    distribution = "gunicorn"
    modules = ("gunicorn.dirty.stash",)
    requirement = "'gunicorn>=25'"
    slow = True
    shared = True
    atomic_incr = True
    most_entries = 2_000
    setting = (
        "the dirty arbiter alone, StashClient on its socket; 2,000 entries at most, as it is "
        "filled one by one; incr under a multiprocessing.Lock, as it has none"
    )
    statements: ClassVar = {
        "get": "value = get('bench', key)",
        "miss": "try:\n    value = get('bench', key)\nexcept StashError:\n    value = None",
        "contains": "value = exists('bench', key)",
        "set": "put('bench', key, value)",
        "incr": "with lock:\n    value = get('bench', key) + 1\n    put('bench', key, value)",
        "delete": "delete('bench', key)",
        "get_object": "value = get('bench', key)",
        "set_object": "put('bench', key, value)",
    }

    def command(self, socket: str, room: int, value_bytes: int) -> list[str]:
        return [sys.executable, "-c", ARBITER, socket]

    def make(self, room: int, value_bytes: int) -> None:
        super().make(room, value_bytes)
        self.address = (self.address, multiprocessing.get_context("spawn").Lock())

    def open(self) -> None:
        from gunicorn.dirty.stash import StashClient

        path, self.lock = self.address
        self.handle = StashClient(path)
        self.handle.ensure(_TABLE)

    def fill(self, entries: Entries) -> None:
        for key, value in entries.items():
            self.handle.put(_TABLE, key, value)

    def names(self) -> dict[str, Any]:
        from gunicorn.dirty.stash import StashError

        client = self.handle
        return {
            "get": client.get, "put": client.put, "exists": client.exists,
            "delete": client.delete, "lock": self.lock, "StashError": StashError,
        }

    def shut(self) -> None:
        self.handle.close()
