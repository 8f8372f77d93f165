"""redis on a unix socket."""

from __future__ import annotations

import importlib.metadata
import pickle
import subprocess
from functools import cache
from itertools import chain, islice
from typing import Any, ClassVar

from ..core.peer import Entries
from .base import PackedPeer, ServedPeer, packed

_CHUNK = 100  # entries of a message: of large values more would be too much for one


class Redis(ServedPeer, PackedPeer):
    """redis that keeps nothing on disk; its client's connection, without the layers above it."""

    name = "redis"
    distribution = "redis"
    modules = ("redis", "hiredis")
    requirement = "redis hiredis"
    program = "redis-server"
    package = "redis-server"
    slow = True
    shared = True
    atomic_incr = True
    setting = (
        "unix socket, no persistence; redis-py's connection with the hiredis parser: send_command "
        "and read_response, without pool, retries and callbacks"
    )
    statements: ClassVar = {
        "get": "send('GET', key)\nvalue = answer()",
        "miss": "send('GET', key)\nvalue = answer()",
        "contains": "send('EXISTS', key)\nvalue = answer() == 1",
        "set": "send('SET', key, value)\nanswer()",
        "incr": "send('INCR', key)\nvalue = answer()",
        "delete": "send('DEL', key)\nanswer()",
        "get_object": "send('GET', key)\nvalue = loads(answer())",
        "set_object": "send('SET', key, dumps(value, 5))\nanswer()",
        "get_many": "send('MGET', *keys)\nvalue = answer()",
        "set_many": "send('MSET', *flat(mapping.items()))\nanswer()",
    }

    @classmethod
    def version(cls) -> str:
        hiredis = importlib.metadata.version("hiredis")
        return f"{_server_version()}, redis-py {super().version()}, hiredis {hiredis}"

    def command(self, socket: str, room: int, value_bytes: int) -> list[str]:
        return [
            self.program, "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly",
            "no", "--daemonize", "no", "--maxclients", "512",
        ]

    def open(self) -> None:
        from redis import connection

        opener: Any = connection.UnixDomainSocketConnection
        self.handle = opener(path=self.address, socket_timeout=60)
        self.handle.connect()

    def fill(self, entries: Entries) -> None:
        pairs = ((key, packed(value)) for key, value in entries.items())
        while chunk := list(islice(pairs, _CHUNK)):
            self.handle.send_command("MSET", *chain.from_iterable(chunk))
            self.handle.read_response()

    def names(self) -> dict[str, Any]:
        return {
            "send": self.handle.send_command, "answer": self.handle.read_response,
            "flat": chain.from_iterable, "loads": pickle.loads, "dumps": pickle.dumps,
        }

    def shut(self) -> None:
        self.handle.disconnect()


@cache
def _server_version() -> str:
    said = subprocess.run(["redis-server", "--version"], capture_output=True, text=True)
    return next((w[2:] for w in said.stdout.split() if w.startswith("v=")), "unknown")
