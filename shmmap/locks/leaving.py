"""The end of a `with` of a lock, so that no signal handler can leave the lock behind.

A handler may raise before the first line of `__exit__`, where nothing in Python can help. So what
the interpreter keeps as the exit of a `with` is all that keeps what is held by it: where it was not
called, that goes with the statement, and the lock is freed. See `blocks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..errors import ShmMapError
from ..system.blocks import exit_of
from ..system.process import this_process
from ..system.tasks import current_holder
from .deferred_release import free_later

if TYPE_CHECKING:
    from .holdings import Hold
    from .takings import Taking

Again = tuple["Hold", object]  # a holding that was taken again, and its entry of that


class Grip:
    """What one taking has: `mine` the holding, if it has made one, or `again` that which it took
    again. Both are empty, or have one item."""

    __slots__ = ("again", "mine")

    def __init__(self) -> None:
        self.mine: list[Hold] = []
        self.again: list[Again] = []

    def take_again(self, hold: Hold) -> None:
        """Take once more what is held."""
        entry = object()
        self.again.append((hold, entry))  # before: who undoes this may find nothing to undo
        hold.again.append(entry)

    def undo_again(self) -> None:
        """Have what was taken again be taken once less."""
        while self.again:
            hold, entry = self.again.pop()
            with suppress(ValueError):  # it was left
                hold.again.remove(entry)

    def clear(self) -> None:
        """Have it hold nothing: what it had was left."""
        self.mine.clear()
        self.again.clear()


class Leaving(Grip):
    """What one `with` holds. It lives as long as that statement: where its end is not called, it
    goes, and what is still held by it is freed."""

    __slots__ = ("__weakref__", "_taking")

    def __init__(self, taking: Taking) -> None:
        super().__init__()
        self._taking = taking

    def __del__(self) -> None:
        mine = getattr(self, "mine", None)  # `__init__` may have been broken off
        if mine:  # no loop: that takes memory, and there may be none
            hold = mine[0]
            part = hold.part
            if part.holds.get(hold.sequence) is hold and hold.process == this_process():
                hold.is_over = part.is_owing = True
                if part.whole is not None:
                    free_later(part.whole)
        if getattr(self, "again", ()):
            self.undo_again()


def leave(held: Callable[[], Any], kind: object, error: object, trace: object) -> None:
    """End a `with`. No variable has what it holds: a traceback would keep that."""
    try:
        held()._taking._leave(held())
        held().clear()
    except ShmMapError:
        if kind is None:  # else what is under way says more
            raise
    except BaseException:  # a signal handler's, before `release` could see to that
        held()._taking._undo(held())
        raise


def leave_async(held: Callable[[], Any], kind: object, error: object, trace: object) -> Done:
    """End an `async with`: at once, since leaving does not wait. A coroutine would have a frame
    that a traceback keeps."""
    leave(held, kind, error, trace)
    return Done()


class Done:
    """What is awaited, and has been done."""

    __slots__ = ()

    def __await__(self) -> Iterator[None]:
        return iter(())


class Exit:
    """`__exit__` and `__aexit__`: the interpreter asks for it as a `with` begins, before it
    enters."""

    def __init__(self, end: Callable[..., Any]) -> None:
        self._end = end

    def __get__(self, taking: Taking | None, owner: object = None) -> Callable[..., Any]:
        if taking is None:
            return lambda taking, *error: exit_of(self._end, Leaving(taking))(*error)
        leaving = taking._leavings[current_holder()] = Leaving(taking)
        return exit_of(self._end, leaving)
