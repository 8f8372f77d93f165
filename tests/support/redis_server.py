"""A redis-server of a test's own, on a unix socket: started, killed, stopped and started again."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from .server_process import ServerProcess

LIMIT_S = 20


class RedisServer(ServerProcess):
    """One server. It keeps nothing when it ends, unless `more` says otherwise."""

    def __init__(self, folder: Path, *more: str) -> None:
        program = which("redis-server") or which("valkey-server")
        if program is None:
            pytest.skip("there is no redis-server")
        self.path = folder / "redis.sock"
        self._command = [program, "--port", "0", "--unixsocket", str(self.path), "--save", "",
                         "--dir", str(folder), *more]
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.path.unlink(missing_ok=True)
        process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        self._process = process
        deadline = time.monotonic() + LIMIT_S
        while not self._answers():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)

    def _answers(self) -> bool:
        """Tell whether it listens: its socket is there a moment before it does."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.path))
            except OSError:
                return False
        return True

    def client(self, **more: Any) -> Any:
        """Return a client of it."""
        redis = pytest.importorskip("redis")
        return redis.Redis(unix_socket_path=str(self.path), **more)
