"""Forked processes for tests: each has a time limit and is reaped by its own pid.

A child runs one function and reports what it returned or raised. While it runs the two
sides exchange objects with `tell` and `hear`. It dies with its parent, stopped or not.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from multiprocessing import Pipe
from typing import Any

LIMIT_S = 60
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class ChildFailed(Exception):
    """A child raised: `kind` is the class's name, the text its message."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.text = text


class Child:
    """A forked process that runs `work(child)`.

    `fork` makes the process: os.fork, or one that runs none of Python's hooks.
    """

    def __init__(
        self, work: Callable[[Child], Any], fork: Callable[[], int] = os.fork
    ) -> None:
        ours, theirs = Pipe()
        parent = os.getpid()
        self.pid = fork()
        self.status: int | None = None
        if self.pid:
            theirs.close()
            self._pipe = ours
            return
        ours.close()
        self._pipe = theirs
        self._run(work, parent)

    def _run(self, work: Callable[[Child], Any], parent: int) -> None:
        code = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(LIMIT_S)
            die_with_parent()
            if os.getppid() == parent:
                try:
                    self._pipe.send(("returned", work(self)))
                    code = 0
                except BaseException as error:
                    self._pipe.send(("raised", type(error).__name__, str(error)))
        finally:
            os._exit(code)

    # -- both sides -------------------------------------------------------------------

    def tell(self, thing: Any) -> None:
        """Send an object to the other side."""
        self._pipe.send(("told", thing))

    def is_told(self) -> bool:
        """Tell whether the other side has told something that was not heard yet."""
        return bool(self._pipe.poll(0))

    def hear(self, patience_s: float = 30.0) -> Any:
        """Return what the other side told; what it raised is raised here."""
        if not self._pipe.poll(patience_s):
            raise TimeoutError(f"process {self.pid} said nothing for {patience_s} s")
        kind, *rest = self._pipe.recv()
        if kind == "raised":
            raise ChildFailed(*rest)
        return rest[0]

    result = hear  # the last thing heard is what `work` returned

    # -- the parent's side ------------------------------------------------------------

    def signal(self, number: int) -> None:
        """Send a signal to a process that was not reaped yet."""
        if self.status is None:
            os.kill(self.pid, number)

    def wait_stopped(self) -> None:
        """Wait until the process is stopped."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            self.status = status
            raise AssertionError(f"process {self.pid} ended ({status}) instead of stopping")

    def stop(self) -> None:
        """Stop the process and wait until it is."""
        self.signal(signal.SIGSTOP)
        self.wait_stopped()

    def go_on(self) -> None:
        """Let a stopped process go on."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the process at once, and reap it."""
        self.signal(signal.SIGKILL)
        self.reap()

    def end(self, patience_s: float = 30.0) -> Any:
        """Return what `work` returned, and end the process, either way."""
        try:
            return self.hear(patience_s)
        finally:
            self.kill()

    def reap(self) -> int:
        """Wait for the end (the time limit guards it); give the wait status."""
        if self.status is None:
            _, self.status = os.waitpid(self.pid, 0)
            self._pipe.close()
        return self.status


class Children:
    """Start children; `close` ends those that are left."""

    def __init__(self) -> None:
        self._all: list[Child] = []

    def __call__(
        self, work: Callable[[Child], Any], fork: Callable[[], int] = os.fork
    ) -> Child:
        self._all.append(Child(work, fork))
        return self._all[-1]

    def close(self) -> None:
        """Kill and reap every child that was not reaped."""
        for child in self._all:
            if child.status is None:
                child.kill()
