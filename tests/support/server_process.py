"""A server that a test has started: killed, stopped, and let go on."""

from __future__ import annotations

import signal
import subprocess


class ServerProcess:
    """The process of a server, which its owner starts."""

    _process: subprocess.Popen[bytes] | None = None

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Have it answer nobody, with its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
