"""What the processes of a machine do for a tier in the background: each has a part of its own."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from ..system.background import Background
from ..system.process import this_process


class Starts(Protocol):
    """What a process does: see `watching.Part`, `draining.Part`."""

    def start(self) -> None:
        """Begin, unless it has; never raises."""

    def stop(self) -> None:
        """End; another process may do it then."""


class Runs:
    """A part that does a step again and again in the background, as long as somebody has it."""

    def __init__(self, interval_s: float) -> None:
        me = weakref.ref(self)
        self._background = Background(
            lambda: (one := me()) is not None and one._step(), interval_s, at_once=True)

    def start(self) -> None:
        """Begin, unless it has; never raises."""
        self._background.start()

    def stop(self) -> None:
        """End; another process may do it then."""
        if self._background.stop():  # else the step that goes on leaves
            self._leave()

    def _step(self) -> bool:
        """Do it once; False: it ends."""
        raise NotImplementedError

    def _leave(self) -> None:
        """Leave it to another process."""


Part = TypeVar("Part", bound=Starts)


class Parts(Generic[Part]):
    """The parts of one tier; `make` makes that of a process."""

    def __init__(self, make: Callable[[], Part]) -> None:
        self._make = make
        self._parts: dict[int, Part] = {}
        _all.add(self)

    @property
    def part(self) -> Part:
        """This process's; all its threads come to the same."""
        me = this_process()
        part = self._parts.get(me)
        return self._parts.setdefault(me, self._make()) if part is None else part

    def start(self) -> None:
        """Have this process take part; never raises."""
        self.part.start()

    def stop(self) -> None:
        """End this process's part, and let another one do it."""
        part = self._parts.get(this_process())
        if part is not None:
            part.stop()


_all: weakref.WeakSet[Parts[Any]] = weakref.WeakSet()


def _forget_the_parent_s() -> None:
    """Let a child go without the connections of its parent: else they would stay open as long as
    the child lives, and nobody would read them."""
    for parts in list(_all):
        parts._parts.clear()


os.register_at_fork(after_in_child=_forget_the_parent_s)
