"""A shared dict that every write replaces as a whole, for comparison of designs.

A pickled dict in a shared-memory file of its own for each version; a word in another one says which
version counts. Readers keep what they decoded until that word changes. Writers take a lock. A read
is a call to a Python function, so it is not at its best where nobody writes.
"""

from __future__ import annotations

import mmap
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ...core.machine import SHM
from ...load.map_traffic import Store


class CopyOnWrite:
    """One process's view. `lock` is a multiprocessing lock that all of them share."""

    def __init__(self, name: str, lock: Any) -> None:
        self.name, self.lock = name, lock
        with open(SHM / name, "r+b") as file:
            self.mapping = mmap.mmap(file.fileno(), 8)
        self.words = memoryview(self.mapping).cast("Q")  # one aligned load or store
        self.version = 0
        self.data: dict[str, bytes] = {}

    @classmethod
    def create(cls, name: str, lock: Any, entries: dict[str, bytes]) -> CopyOnWrite:
        """Make one, and fill it."""
        (SHM / name).write_bytes(bytes(8))
        made = cls(name, lock)
        made._publish(entries)
        return made

    def _path(self, version: int) -> Path:
        return SHM / f"{self.name}.{version}"

    def _refresh(self) -> None:
        """Decode the version that counts."""
        while (version := self.words[0]) != self.version:
            with suppress(FileNotFoundError), open(self._path(version), "rb", 0) as file:
                self.data, self.version = pickle.loads(file.read()), version

    def _publish(self, data: dict[str, bytes]) -> None:
        """Write the next version, then say that it counts. Caller holds the lock."""
        version = self.version + 1
        with open(self._path(version), "wb", 0) as file:
            file.write(pickle.dumps(data, pickle.HIGHEST_PROTOCOL))
        self.data, self.version = data, version
        self.words[0] = version
        self._path(version - 1).unlink(missing_ok=True)

    def get(self, key: str) -> bytes | None:
        """Read a key."""
        if self.words[0] != self.version:
            self._refresh()
        return self.data.get(key)

    def put(self, key: str, value: bytes) -> None:
        """Write a key."""
        with self.lock:
            self._refresh()
            self.data[key] = value
            self._publish(self.data)

    def close(self) -> None:
        """Let it go."""
        self.words.release()
        self.mapping.close()

    def remove(self) -> None:
        """Remove it from the machine, and let it go."""
        for file in (SHM / self.name, *SHM.glob(f"{self.name}.*")):  # one, unless a writer died
            file.unlink(missing_ok=True)
        self.close()


class CopyOpener(NamedTuple):
    """Opens a copy-on-write dict in a worker."""

    name: str
    lock: Any

    def open(self) -> Store:
        """Open it; its lock counts no waits."""
        found = CopyOnWrite(self.name, self.lock)
        return Store(found.get, found.put, (0,), 0, found.close)
