"""Servers and sentinels in nodes. What rules them goes over unix sockets, which no cut touches."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis

from ..support.server_process import ServerProcess
from .network import Node

PORT, SENTINEL_PORT, MASTER = 6379, 26379, "shop"
DOWN_MS, FAILOVER_MS = 500, 2000  # until a sentinel holds a server for down; of a failover
LIMIT_S = 20


class Server(ServerProcess):
    """A redis-server, or a sentinel, in a node of its own. It keeps nothing when it ends."""

    def __init__(self, node: Node, folder: Path, *options: str, kind: str = "server") -> None:
        self.node = node
        self.socket = folder / f"{node.name}.sock"
        self._folder = folder
        self._command = [f"redis-{kind}"]
        if kind == "sentinel":
            self._file = folder / f"{node.name}.conf"
            self._command.append(str(self._file))
        self._options = ["--bind", "0.0.0.0", "--protected-mode", "no", "--dir", str(folder),
                         "--unixsocket", str(self.socket), *options]
        if kind == "server":
            self._options += ["--port", str(PORT), "--save", "", "--dbfilename",
                              f"{node.name}.rdb", "--repl-diskless-sync-delay", "0"]
        self.client: Any = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=5)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.socket.unlink(missing_ok=True)
        said = open(self._folder / f"{self.node.name}.log", "ab")  # noqa: SIM115
        with said:
            self._process = self.node.spawn(*self._command, *self._options, stdout=said,
                                            stderr=said)
        until(self.answers, f"{self.node.name} starts")

    def answers(self) -> bool:
        """Tell whether it does."""
        with suppress(redis.RedisError):
            return bool(self.client.ping())
        return False

    def ports_of_listeners(self, node: Node) -> list[int]:
        """Return the ports of a node's connections that hear what changes."""
        found = [one["addr"].rpartition(":") for one in self.client.client_list()
                 if "t" in one["flags"]]
        return [int(port) for address, _, port in found if address == node.address]


class Sentinel(Server):
    """One of those that watch a master."""

    def __init__(self, node: Node, folder: Path, master: str) -> None:
        super().__init__(node, folder, "--port", str(SENTINEL_PORT), kind="sentinel")
        self._file.write_text("\n".join([
            f"sentinel monitor {MASTER} {master} {PORT} 2",
            f"sentinel down-after-milliseconds {MASTER} {DOWN_MS}",
            f"sentinel failover-timeout {MASTER} {FAILOVER_MS}", "",
        ]))

    def master(self) -> str:
        """Return the address of the master that it knows."""
        with suppress(redis.RedisError):
            found = self.client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
            return str(found[0].decode())
        return ""

    def hurry(self, period_ms: int) -> None:
        """Have it ask, and say, as often."""
        for what in ("INFO-PERIOD", "PUBLISH-PERIOD", "PING-PERIOD", "ASK-PERIOD"):
            self.client.execute_command("SENTINEL", "DEBUG", what, period_ms)

    def is_ready(self, others: int, replicas: int) -> bool:
        """Tell whether it knows of its peers, and of the master's replicas."""
        with suppress(redis.RedisError):
            known = self.client.sentinel_master(MASTER)
            return (known["num-other-sentinels"], known["num-slaves"]) == (others, replicas)
        return False


def until(is_so: Any, what: str, limit_s: float = LIMIT_S) -> float:
    """Wait for something; return how many seconds it took."""
    began = time.monotonic()
    while not is_so():
        if time.monotonic() > began + limit_s:
            raise TimeoutError(f"not within {limit_s:g} s: {what}")
        time.sleep(0.005)
    return time.monotonic() - began
