"""A second process that uses the map all the time, and what it must still find there.

It makes the map, notes every write that returned, and is asked after the failed call whether all
of them are there, whether the map takes new ones and can be opened by its name.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import shmmap

from ...support.children import die_with_parent

PATIENCE_S = 15.0
OPTIONS: dict[str, Any] = {
    "size": "300KB", "shards": 1, "sweep_interval": None, "lock_timeout": 2.0,
}


def killed_in(m: Any, work: Callable[[Any], object]) -> None:
    """Have a child of this process do something with the map, and be killed in it."""
    pid = os.fork()
    if not pid:
        try:
            work(m)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


class Hung(Exception):
    """The companion did not answer in time."""


class Beside:
    """What the companion holds for one run of one scenario."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.map: Any = None
        self.written: dict[str, Any] = {}

    def make(self, **options: Any) -> None:
        """Make the map, and write what must stay."""
        self.map = shmmap.ShmMap.create(self.name, **{**OPTIONS, **options})
        self.write(20)

    def write(self, count: int) -> None:
        """Write more, and note it."""
        for _ in range(count):
            key = f"kept {len(self.written)}"
            self.map[key] = {"number": len(self.written)}
            self.written[key] = {"number": len(self.written)}

    def look(self) -> str:
        """Say what is wrong with the map for those who use it; "": nothing."""
        if self.map is None:
            return ""
        try:
            for key, value in self.written.items():
                found = self.map.get(key)
                if found != value:
                    return f"an acknowledged entry reads {found!r}"
            self.write(2)
            with shmmap.ShmMap.attach(self.name) as again:
                if again.get("kept 0") != self.map["kept 0"]:
                    return "opened by its name there is another map"
            return "; ".join(self.map.check())
        except shmmap.ShmMapError as error:
            return f"{type(error).__name__}: {error}"

    def unlink(self) -> None:
        """Remove the map."""
        if self.map is not None:
            self.map.unlink()
            self.map.close()
            self.map = None


class Companion:
    """The process, as its parent sees it."""

    def __init__(self) -> None:
        gc.collect()
        self._pipe, theirs = Pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid:
            theirs.close()
            return
        try:
            self._pipe.close()
            die_with_parent()
            if os.getppid() == parent:
                _serve(theirs)
        finally:
            os._exit(0)

    def ask(self, what: Callable[[Any], Any], name: str = "") -> Any:
        """Have the companion call a function with what it holds. With a name: begin anew."""
        self._pipe.send((what, name))
        if not self._pipe.poll(PATIENCE_S):
            raise Hung(f"{what.__qualname__} takes more than {PATIENCE_S:.0f} s")
        fine, answer = self._pipe.recv()
        if not fine:
            raise RuntimeError(answer)
        return answer

    def end(self) -> None:
        """End the process."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._pipe.close()


def _serve(pipe: Connection) -> None:
    beside = Beside("")
    while True:
        try:
            what, name = pipe.recv()
        except EOFError:
            return
        if name:
            beside = Beside(name)
        try:
            pipe.send((True, what(beside)))
        except BaseException as error:
            pipe.send((False, f"{type(error).__name__}: {error}"))
