"""A server process of a store, and its end."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PREFIX = "shmmap-bench-"  # of directories
PATIENCE_S = 30.0  # a server starts within that, on a busy machine too
FAREWELL_S = 0.3  # then it is killed: nothing that it has is to be kept


class ServerError(Exception):
    """A server did not start: its message has the server's last words."""


class Server:
    """A server on a unix socket in a temporary directory.

    It is in a session of its own, so that Ctrl-C reaches only the runner, which ends it: by its
    own pid, from close(), at an error, and at the latest at exit. Where there is setpriv, it
    ends too when the runner is killed.

    Attributes:
        socket: the path that clients connect to.
    """

    def __init__(self, command: Callable[[str], list[str]]) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._directory = tempfile.mkdtemp(prefix=PREFIX)
        atexit.register(self.stop)
        self.socket = os.path.join(self._directory, "socket")
        try:
            self._start(command(self.socket))
        except BaseException:
            self.stop()
            raise

    def _start(self, command: list[str]) -> None:
        if shutil.which("setpriv") is not None:
            command = ["setpriv", "--pdeathsig", "TERM", *command]
        log = Path(self._directory, "log")
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                cwd=self._directory, start_new_session=True,
                env={**os.environ, "TMPDIR": self._directory},
            )
        give_up = time.monotonic() + PATIENCE_S
        while not _connects(self.socket):
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise ServerError(f"{command} does not serve: {log.read_text()[-300:]}")
            time.sleep(0.005)

    @property
    def pid(self) -> int | None:
        """The server's process id; None: it has ended."""
        return None if self._process is None else self._process.pid

    def stop(self) -> None:
        """End the server and remove its directory; once more does nothing."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(FAREWELL_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)
        atexit.unregister(self.stop)


def _connects(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
        return True
