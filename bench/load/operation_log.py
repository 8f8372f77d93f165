"""When single operations of a thread began, what each took, and what of it was the scheduler's."""

from __future__ import annotations

import os
from array import array


class Log:
    """When operations began, what each took, and of long ones what the scheduler had to do with it.

    Attributes:
        begins, spans: ns, of each.
        own: of long ones: which, and ns less the wait for a processor since the last `look`.
    """

    def __init__(self) -> None:
        self.begins, self.spans = array("q"), array("q")
        self.own: list[tuple[int, int]] = []
        try:
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # a kernel that does not count it
            self._file = -1
        self._waited = 0
        self.look()

    def look(self) -> int:
        """Ask what this thread has waited for a processor; return ns since this was last asked."""
        before = self._waited
        if self._file >= 0:
            self._waited = int(os.pread(self._file, 64, 0).split()[1])
        return self._waited - before

    def note_long(self, span: int) -> None:
        """Note of the last operation that it was long."""
        self.own.append((len(self.spans) - 1, max(0, span - self.look())))

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
