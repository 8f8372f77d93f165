"""What a scenario is.

Its `prepare` runs in the companion, the other methods in the subject: `before` without failing
calls, `operation` with them, then `check` of what it gave, `again` for the same without failing
calls, and `finish`. The checks return what is wrong, "" for nothing.
"""

from __future__ import annotations

from typing import Any, ClassVar

import shmmap

from .companion import Beside


class Scenario:
    """The base: a map that the companion has made and uses. See the module."""

    name: ClassVar[str] = ""
    options: ClassVar[dict[str, Any]] = {}  # of the map
    shared = True  # the companion makes the map
    forks = False  # the subject does it in a child that it forks
    undoes = False  # what failed leaves nothing in /dev/shm
    lets_go = False  # it is the letting go that fails, to be tried again
    most = 0  # of each kind of call so many fail, where all are run; 0: all

    def __init__(self, map_name: str, directory: str) -> None:
        self.map_name = map_name
        self.directory = directory
        self.map: Any = None
        self.mine: dict[str, Any] = {}

    @classmethod
    def prepare(cls, beside: Beside) -> None:
        """Make what the scenario starts from."""
        if cls.shared:
            beside.make(**cls.options)

    def open(self) -> Any:
        """Open the map, write what this process wants to find again."""
        m = shmmap.ShmMap.attach(self.map_name, lock_timeout=2.0)
        m["mine"] = self.mine["mine"] = "written before"
        return m

    def before(self) -> None:
        """Get ready."""
        self.map = self.open()

    def operation(self) -> Any:
        """Do it."""
        raise NotImplementedError

    def check(self, result: Any) -> str:
        """Judge what the operation gave."""
        return ""

    def after_failure(self) -> str:
        """Judge what a failure has left; nothing fails any more."""
        if self.map is not None and not self.map.closed:
            for key, value in self.mine.items():
                if self.map.get(key) != value:
                    return f"{key!r} reads {self.map.get(key)!r}"
        return ""

    def again(self) -> str:
        """Try the operation again."""
        return self.check(self.operation())

    def finish(self) -> None:
        """Let everything go."""
        if self.map is not None:
            self.map.close()
