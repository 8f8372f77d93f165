"""The peers, each at its strongest fair setting.

An adapter opens a store, fills it, and gives for each operation the fastest statement that its
users can write (not a wrapper: a call to one costs as much as a dict's operation). The runner
puts the statement into a loop over `key`; it leaves its result in `value`, or writes `value`.
To add a peer: subclass Peer, list it in PEERS.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
import multiprocessing
import os
import shutil
import struct
import tempfile
import threading
from collections.abc import Mapping
from typing import Any, ClassVar

from .workloads import Scale

SHM = "/dev/shm"
_COUNT = struct.Struct("<q")
_numbers = itertools.count()


class Peer:
    """One store. Subclasses say what they are, and how each operation is written.

    Attributes:
        name: as in tables and metrics.
        distribution: what must be installed; "": nothing.
        slow: has a limit to the operations of a batch.
        shared: other processes can open it by `address`.
        setting: how it is set up, for the report.
        answers: statements leave something to verify.
        statements: operation -> statement. get, set, incr, contains, miss.
    """

    name: ClassVar[str]
    distribution: ClassVar[str] = ""
    slow: ClassVar[bool] = False
    shared: ClassVar[bool] = False
    setting: ClassVar[str] = ""
    answers: ClassVar[bool] = True
    statements: ClassVar[Mapping[str, str]]
    address: Any = None

    def __init__(self, room: int) -> None:
        """Open an empty store for so many entries."""

    def fill(self, entries: Mapping[str, bytes | int]) -> None:
        """Write these entries (an int: a counter)."""
        raise NotImplementedError

    @classmethod
    def missing(cls) -> str:
        """Give the command that installs this peer; "": it is there."""
        if cls.distribution and importlib.util.find_spec(cls.distribution) is None:
            return f"pip install {cls.distribution}"
        return ""

    @classmethod
    def version(cls) -> str:
        """Give the peer's version."""
        if cls.distribution:
            return importlib.metadata.version(cls.distribution)
        return "standard library"

    @classmethod
    def attach(cls, address: Any) -> Peer:
        """Open the store that another process filled."""
        raise NotImplementedError

    @classmethod
    def limit(cls, scale: Scale) -> int | None:
        """Give the most operations of a batch, for a peer that would take minutes; else None."""
        return scale.slow_batch if cls.slow else None

    def names(self) -> dict[str, Any]:
        """Give what the statements refer to."""
        raise NotImplementedError

    def native_keys(self, keys: list[str]) -> list[Any]:
        """Turn keys into what this peer takes, before the clock runs."""
        return keys

    def read(self, key: str) -> bytes | int | None:
        """Read one entry, for verification."""
        raise NotImplementedError

    def close(self) -> None:
        """Let the store go, and remove it if this process made it."""


class EmptyLoop(Peer):
    """The loop alone, over the same keys: what is inside every other figure."""

    name = "(empty loop)"
    setting = "the loop over the same keys, and nothing in it"
    answers = False
    statements: ClassVar = dict.fromkeys(("get", "set", "incr", "contains", "miss"), "pass")

    def fill(self, entries: Mapping[str, bytes | int]) -> None:
        pass

    def names(self) -> dict[str, Any]:
        return {}


class Dict(Peer):
    """A dict of this process: the floor. It meets the very key objects it was filled with."""

    name = "dict"
    setting = "one process's own; the very key objects it was filled with"
    statements: ClassVar = {
        "get": "value = get(key)",
        "miss": "value = get(key)",
        "set": "data[key] = value",
        "contains": "value = key in data",
        "incr": "value = data[key] = data[key] + 1",
    }

    def fill(self, entries: Mapping[str, bytes | int]) -> None:
        self.data = dict(entries)

    def names(self) -> dict[str, Any]:
        return {"data": self.data, "get": self.data.get}

    def read(self, key: str) -> bytes | int | None:
        return self.data.get(key)


class ShmMapPeer(Peer):
    """The map under test, with the defaults that `capacity=` gives."""

    name = "shmmap"
    shared = True
    setting = "capacity= the entries, everything else as by default"
    statements: ClassVar = {
        "get": "value = get(key)",
        "miss": "value = get(key)",
        "set": "data[key] = value",
        "contains": "value = key in data",
        "incr": "value = incr(key)",
    }

    def __init__(self, room: int) -> None:
        import shmmap

        self.made = True
        self.address = unique_name()
        self.data = shmmap.ShmMap.create(self.address, capacity=room, ephemeral=True)

    def fill(self, entries: Mapping[str, bytes | int]) -> None:
        self.data.set_many(entries)

    @classmethod
    def version(cls) -> str:
        import shmmap

        return shmmap.__version__

    @classmethod
    def limit(cls, scale: Scale) -> int | None:
        import shmmap

        return scale.pure_batch if shmmap.ENGINE == "pure" else None

    @classmethod
    def attach(cls, address: Any) -> Peer:
        import shmmap

        peer = cls.__new__(cls)
        peer.made = False
        peer.data = shmmap.ShmMap.attach(address)
        return peer

    def names(self) -> dict[str, Any]:
        return {"data": self.data, "get": self.data.get, "incr": self.data.incr}

    def read(self, key: str) -> bytes | int | None:
        value: bytes | int | None = self.data.get(key)
        return value

    def close(self) -> None:
        if self.made:
            self.data.unlink()
        self.data.close()


class TTLCacheLock(Peer):
    """cachetools.TTLCache with the lock that threads need, and its fastest way to read."""

    name = "TTLCache+lock"
    distribution = "cachetools"
    setting = "room for twice the entries, ttl 3600; `with lock:` and a subscript, inline"
    statements: ClassVar = {
        "get": "with lock:\n    value = data[key]",
        "miss": "with lock:\n    value = get(key)",
        "set": "with lock:\n    data[key] = value",
        "contains": "with lock:\n    value = key in data",
        "incr": "with lock:\n    value = data[key] = data[key] + 1",
    }

    def __init__(self, room: int) -> None:
        from cachetools import TTLCache

        self.data: Any = TTLCache(maxsize=2 * room, ttl=3600)

    def fill(self, entries: Mapping[str, bytes | int]) -> None:
        self.data.update(entries)

    def names(self) -> dict[str, Any]:
        return {"data": self.data, "get": self.data.get, "lock": threading.Lock()}

    def read(self, key: str) -> bytes | int | None:
        value: bytes | int | None = self.data.get(key)
        return value


class ManagerDict(Peer):
    """multiprocessing.Manager().dict(): a proxy to a server process."""

    name = "Manager().dict"
    slow = True
    setting = "server started by spawn; incr under a multiprocessing.Lock, as it has none"
    statements: ClassVar = {
        "get": "value = get(key)",
        "miss": "value = get(key)",
        "set": "data[key] = value",
        "contains": "value = key in data",
        "incr": "with lock:\n    value = data[key] + 1\n    data[key] = value",
    }

    def __init__(self, room: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.manager = context.Manager()
        self.lock = context.Lock()
        self.data = self.manager.dict()

    def fill(self, entries: Mapping[str, bytes | int]) -> None:
        self.data.update(dict(entries))  # one message

    def names(self) -> dict[str, Any]:
        return {"data": self.data, "get": self.data.get, "lock": self.lock}

    def read(self, key: str) -> bytes | int | None:
        return self.data.get(key)

    def close(self) -> None:
        self.manager.shutdown()


class Lmdb(Peer):
    """lmdb in /dev/shm with every kind of syncing off, and one transaction an operation."""

    name = "lmdb"
    distribution = "lmdb"
    shared = True
    setting = (
        "in /dev/shm, writemap, sync/metasync/readahead/meminit off; one transaction an "
        "operation, ended by abort() (faster than `with`); keys encoded before the clock runs"
    )
    statements: ClassVar = {
        "get": "txn = begin()\nvalue = txn.get(key)\ntxn.abort()",
        "miss": "txn = begin()\nvalue = txn.get(key)\ntxn.abort()",
        "set": "txn = begin(None, None, True)\ntxn.put(key, value)\ntxn.commit()",
        "contains": "txn = begin(None, None, False, True)\n"
                    "value = txn.get(key) is not None\ntxn.abort()",
        "incr": "txn = begin(None, None, True)\nvalue = unpack(txn.get(key))[0] + 1\n"
                "txn.put(key, pack(value))\ntxn.commit()",
    }

    def __init__(self, room: int) -> None:
        self.made = True
        self.address = tempfile.mkdtemp(prefix="shmmap-bench-", dir=SHM)
        self.environment = self._open(self.address)

    def fill(self, entries: Mapping[str, bytes | int]) -> None:
        with self.environment.begin(write=True) as txn:
            for key, value in entries.items():
                packed = _COUNT.pack(value) if isinstance(value, int) else value
                txn.put(key.encode(), packed)

    @staticmethod
    def _open(path: str) -> Any:
        import lmdb

        return lmdb.open(
            path, map_size=1 << 30, sync=False, metasync=False, writemap=True, map_async=True,
            readahead=False, meminit=False,
        )

    @classmethod
    def attach(cls, address: Any) -> Peer:
        peer = cls.__new__(cls)
        peer.made = False
        peer.environment = cls._open(address)
        return peer

    def names(self) -> dict[str, Any]:
        return {"begin": self.environment.begin, "pack": _COUNT.pack, "unpack": _COUNT.unpack}

    def native_keys(self, keys: list[str]) -> list[Any]:
        # One bytes object for each key, as a str is one object however often it is listed.
        encoded = {key: key.encode() for key in keys}
        return [encoded[key] for key in keys]

    def read(self, key: str) -> bytes | int | None:
        with self.environment.begin() as txn:
            value: bytes | None = txn.get(key.encode())
        if value is not None and len(value) == _COUNT.size:
            return int(_COUNT.unpack(value)[0])
        return value

    def close(self) -> None:
        self.environment.close()
        if self.made:
            shutil.rmtree(self.address)


def unique_name() -> str:
    """Give a map name that nobody else uses."""
    return f"bench-{os.getpid()}-{next(_numbers)}"


PEERS: tuple[type[Peer], ...] = (EmptyLoop, Dict, ShmMapPeer, TTLCacheLock, ManagerDict, Lmdb)


def present_peers() -> tuple[list[type[Peer]], dict[str, str]]:
    """List the peers that can run, and for those that cannot what installs them."""
    absent = {peer.name: peer.missing() for peer in PEERS if peer.missing()}
    return [peer for peer in PEERS if peer.name not in absent], absent
