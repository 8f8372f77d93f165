"""Peers that keep bytes, that lie in a directory, that have a server: each with its end."""

from __future__ import annotations

import pickle
import shutil
import tempfile
from typing import Any

from ..core.machine import SHM
from ..core.peer import Peer
from .server import PREFIX, Server


class PackedPeer(Peer):
    """A store of bytes: counters are kept in ASCII digits, objects are pickled."""

    def read_all(self, keys: list[str]) -> list[Any]:
        # No value of a workload is all digits: each tells in words what it was written for.
        return [int(v) if v and v.isdigit() else v for v in super().read_all(keys)]


class StoredPeer(Peer):
    """A store in a directory of its own in /dev/shm, which is its address."""

    def make(self, room: int, value_bytes: int) -> None:
        self.address = tempfile.mkdtemp(prefix=PREFIX, dir=str(SHM))

    def remove(self) -> None:
        if self.address is not None:
            shutil.rmtree(self.address)


class ServedPeer(Peer):
    """A store in a server process of its own; its unix socket is the address."""

    server: Server | None = None

    def command(self, socket: str, room: int, value_bytes: int) -> list[str]:
        """Return the command that serves at this socket."""
        raise NotImplementedError

    def make(self, room: int, value_bytes: int) -> None:
        self.server = Server(lambda socket: self.command(socket, room, value_bytes))
        self.address = self.server.socket

    def remove(self) -> None:
        if self.server is not None:
            self.server.stop()


def packed(value: Any) -> bytes:
    """Turn a value into what a PackedPeer keeps.

    >>> packed(b"as it is"), packed(12), pickle.loads(packed({"a": 1}))
    (b'as it is', b'12', {'a': 1})
    """
    if isinstance(value, bytes):
        return value
    return b"%d" % value if isinstance(value, int) else pickle.dumps(value, 5)


def encoded(keys: list[str]) -> list[bytes]:
    """Encode keys: one bytes object for each, as a str is one object however often listed."""
    known = {key: key.encode() for key in keys}
    return [known[key] for key in keys]
