"""A page that a child and its watchman share: which state it is at, which operation, since when.

It survives the child, so that a crash and a hang are known by their seed and operation.
"""

from __future__ import annotations

import mmap
import time

_SEED, _SINCE, _NEIGHBOUR = range(3)
_NAME_AT = 64


class Watch:
    """The page. Forked children see the same one."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE)
        self._words = memoryview(self._page).cast("q")

    def at(self, seed: int) -> None:
        """Note which state is next; no operation runs."""
        self._words[_SEED] = seed
        self.end()

    def begin(self, name: str) -> None:
        """Note that an operation begins."""
        self._page[_NAME_AT : _NAME_AT + 64] = name.encode()[:64].ljust(64)
        self._words[_SINCE] = time.monotonic_ns()

    def end(self) -> None:
        """Note that it ended."""
        self._words[_SINCE] = 0

    def set_neighbour(self, pid: int) -> None:
        """Note a process that must be reaped if the child dies; 0: it was."""
        self._words[_NEIGHBOUR] = pid

    @property
    def seed(self) -> int:
        """The state that the child is, or was, at."""
        return self._words[_SEED]

    @property
    def operation(self) -> str:
        """The operation that runs, or ran last."""
        return bytes(self._page[_NAME_AT : _NAME_AT + 64]).decode().strip()

    @property
    def neighbour(self) -> int:
        """The process to reap; 0: none."""
        return self._words[_NEIGHBOUR]

    def running_s(self) -> float:
        """Return for how long an operation has been running."""
        since = self._words[_SINCE]
        return (time.monotonic_ns() - since) / 1e9 if since else 0.0


WATCH = Watch()
