"""memcached on a unix socket."""

from __future__ import annotations

import os
import pickle
import pwd
import subprocess
from functools import cache
from itertools import islice
from typing import Any, ClassVar

from ..core.peer import Entries
from ..core.workloads import KEY_BYTES
from .base import PackedPeer, ServedPeer, encoded, packed

_CHUNK = 100  # the client reads no answer before all is sent, and the server waits to answer


class Memcached(ServedPeer, PackedPeer):
    """memcached that evicts nothing, and pymemcache's plain client."""

    name = "memcached"
    distribution = "pymemcache"
    program = "memcached"
    package = "memcached"
    slow = True
    shared = True
    atomic_incr = True
    setting = (
        "unix socket, 4 threads, room for all; pymemcache's Client; writes wait for the answer, "
        "as everybody's do; keys encoded before the clock runs"
    )
    statements: ClassVar = {
        "get": "value = get(key)",
        "miss": "value = get(key)",
        "contains": "value = get(key) is not None",
        "set": "store(key, value)",
        "incr": "value = incr(key, 1)",
        "delete": "delete(key)",
        "get_object": "value = loads(get(key))",
        "set_object": "store(key, dumps(value, 5))",
        "get_many": "value = get_many(keys)",
        "set_many": "set_many(mapping)",
    }

    @classmethod
    def version(cls) -> str:
        return f"{_server_version()}, pymemcache {super().version()}"

    def command(self, socket: str, room: int, value_bytes: int) -> list[str]:
        megabytes = 256 + 2 * room * (value_bytes + KEY_BYTES + 64) // 10**6
        return [
            self.program, "-s", socket, "-a", "600", "-m", str(megabytes), "-M", "-I", "8m",
            "-t", "4", "-c", "1024", "-u", pwd.getpwuid(os.geteuid()).pw_name,
        ]

    def open(self) -> None:
        from pymemcache.client.base import Client

        self.handle = Client(self.address, default_noreply=False, timeout=60)
        self.handle.version()  # it connects at the first command

    def fill(self, entries: Entries) -> None:
        pairs = ((key, packed(value)) for key, value in entries.items())
        while chunk := dict(islice(pairs, _CHUNK)):
            if refused := self.handle.set_many(chunk):
                raise MemoryError(f"memcached refused {len(refused)} of {len(chunk)} entries")

    def names(self) -> dict[str, Any]:
        client = self.handle
        return {
            "get": client.get, "store": client.set, "incr": client.incr, "delete": client.delete,
            "get_many": client.get_many, "set_many": client.set_many, "loads": pickle.loads,
            "dumps": pickle.dumps,
        }

    def native_keys(self, keys: list[str]) -> list[Any]:
        return encoded(keys)

    def shut(self) -> None:
        self.handle.close()


@cache
def _server_version() -> str:
    said = subprocess.run(["memcached", "-V"], capture_output=True, text=True)
    return (said.stdout.split() or ["unknown"])[-1]
