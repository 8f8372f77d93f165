"""sqlite in /dev/shm."""

from __future__ import annotations

import os
import pickle
import sqlite3
from typing import Any, ClassVar

from ..core.peer import Entries
from .base import PackedPeer, StoredPeer, packed

PATIENCE_S = 60.0
_GET = "SELECT value FROM entries WHERE key = ?"
_PUT = "INSERT INTO entries VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"


class _Queries(dict[int, str]):
    """The query for so many keys at once."""

    def __missing__(self, keys: int) -> str:
        marks = ", ".join("?" * keys)
        self[keys] = f"SELECT key, value FROM entries WHERE key IN ({marks})"
        return self[keys]


class Sqlite(StoredPeer, PackedPeer):
    """A table whose rows lie in its index; prepared statements; one connection a process."""

    name = "sqlite"
    modules = ("sqlite3",)
    slow = True
    shared = True
    atomic_incr = True
    setting = (
        "in /dev/shm, journal_mode=WAL, synchronous=off, 256 MB mapped, WITHOUT ROWID, autocommit, "
        "one connection a process, prepared statements; incr by UPDATE ... RETURNING"
    )
    _get = "row = execute(GET, (key,)).fetchone()\nvalue = {value} if row else None"
    statements: ClassVar = {
        "get": _get.format(value="row[0]"),
        "miss": _get.format(value="row[0]"),
        "contains": "value = execute(HAS, (key,)).fetchone() is not None",
        "set": "execute(PUT, (key, value))",
        "incr": "value = int(execute(INCR, (key,)).fetchall()[0][0])",
        "delete": "execute(DELETE, (key,))",
        "get_object": _get.format(value="loads(row[0])"),
        "set_object": "execute(PUT, (key, dumps(value, 5)))",
        "get_many": "value = dict(execute(queries[len(keys)], keys))",
        "set_many": "execute('BEGIN IMMEDIATE')\nexecutemany(PUT, mapping.items())\n"
                    "execute('COMMIT')",
    }

    @classmethod
    def version(cls) -> str:
        return sqlite3.sqlite_version

    def make(self, room: int, value_bytes: int) -> None:
        super().make(room, value_bytes)
        self.open()
        self.handle.execute("CREATE TABLE entries (key TEXT PRIMARY KEY, value) WITHOUT ROWID")

    def open(self) -> None:
        if self.handle is None:
            self.handle = sqlite3.connect(
                os.path.join(self.address, "entries"), timeout=PATIENCE_S, isolation_level=None,
            )
            for setting in ("journal_mode = WAL", "synchronous = OFF", "mmap_size = 268435456",
                            "cache_size = -65536"):
                self.handle.execute(f"PRAGMA {setting}").fetchall()

    def fill(self, entries: Entries) -> None:
        self.handle.execute("BEGIN IMMEDIATE")
        self.handle.executemany(_PUT, ((key, packed(value)) for key, value in entries.items()))
        self.handle.execute("COMMIT")

    def names(self) -> dict[str, Any]:
        return {
            "execute": self.handle.execute, "executemany": self.handle.executemany, "GET": _GET,
            "PUT": _PUT, "HAS": "SELECT 1 FROM entries WHERE key = ?",
            "INCR": "UPDATE entries SET value = CAST(value + 1 AS BLOB) WHERE key = ? "
                    "RETURNING value",
            "DELETE": "DELETE FROM entries WHERE key = ?", "queries": _Queries(),
            "loads": pickle.loads, "dumps": pickle.dumps,
        }

    def shut(self) -> None:
        self.handle.close()
