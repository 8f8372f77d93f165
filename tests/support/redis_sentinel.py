"""A sentinel of a test's own, and the servers that it watches over."""

from __future__ import annotations

import subprocess
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from .redis_cluster import free_port, until
from .server_process import ServerProcess

SERVICE = "mymaster"


class Server(ServerProcess):
    """A server at a port of loopback; `master`: whose replica it is."""

    def __init__(self, folder: Path, master: Server | None = None) -> None:
        self.port = free_port()
        folder.mkdir()
        more = [] if master is None else ["--replicaof", f"127.0.0.1 {master.port}"]
        self._start(folder, ["--port", str(self.port), "--save", "", *more])

    def _start(self, folder: Path, arguments: list[str]) -> None:
        program = which("redis-server") or which("valkey-server")
        if program is None:
            pytest.skip("there is no redis-server")
        redis = pytest.importorskip("redis")
        self._process = subprocess.Popen(
            [program, *arguments, "--dir", str(folder), "--bind", "127.0.0.1",
             "--repl-diskless-sync-delay", "0"], stdout=subprocess.DEVNULL)
        self.client = redis.Redis(port=self.port, socket_timeout=5)
        until(lambda: self.client.ping())

    def role(self) -> Any:
        """Return what it is."""
        return self.client.info("replication")["role"]

    def kill(self) -> None:
        """End it at once."""
        super().kill()
        self.client.close()


class Sentinel(Server):
    """A sentinel, which decides alone. One that is made anew knows of no election."""

    def __init__(self, folder: Path, master: Server, port: int = 0) -> None:
        self.port = port or free_port()
        folder.mkdir()
        settings = folder / "sentinel.conf"
        settings.write_text(
            f"port {self.port}\nsentinel monitor {SERVICE} 127.0.0.1 {master.port} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} 60000\n")
        program = which("redis-server") or which("valkey-server")
        redis = pytest.importorskip("redis")
        self._process = subprocess.Popen(
            [str(program), str(settings), "--sentinel"], stdout=subprocess.DEVNULL, cwd=folder)
        self.client = redis.Redis(port=self.port, socket_timeout=5)
        until(lambda: self.client.ping())

    def state(self) -> Any:
        """Return what it says of the master."""
        return self.client.sentinel_master(SERVICE)

    def fails_over(self) -> bool:
        """Have a replica become master; False: it knows of none yet that could."""
        redis = pytest.importorskip("redis")
        try:
            self.client.execute_command("SENTINEL", "FAILOVER", SERVICE)
        except redis.ResponseError:
            return False
        return True
