"""What has to be undone and could not be yet, most often for want of memory.

Where memory is short the steps that undo something fail like all others. So whatever will have to
be undone should what is under way fail is noted here before that begins, while there is memory to
note it; `is_due` is set by a store, which needs none. What is due then is done at once if that can
be, else when this process next opens, closes or sweeps a map, or as it ends. A `Mutex` tells that
somebody is at it: no signal handler can leave that behind, and the child of a fork begins anew,
unless it was forked in the middle of the step: then it goes on there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from ..errors import ShmMapError
from .mutex import Mark, Mutex

_TRIES = 5  # of what is broken off again and again, and not for want of memory
_noted: dict[int, Undo] = {}


class Undo:
    """A step that undoes something, as often as it is called; nothing is missed if it breaks off.
    It gives False where it has to be called again.

    Attributes:
        is_due: it has to be done now; until then what it would undo is still under way, or used.
    """

    __slots__ = ("_broken_off", "_busy", "_key", "_step", "enter", "is_due")

    def __init__(
        self, step: Callable[[], object],
        enter: Callable[[], AbstractContextManager[object]] | None = None,
    ) -> None:
        self._step = step
        self.enter = enter  # gives the lock that the step needs, for those who hold none
        self.is_due = False
        self._broken_off = 0  # how often
        self._busy = Mutex()
        self._key = id(self)
        _noted[self._key] = self

    def drop(self) -> None:
        """Forget it: it is done, or need not be done any more."""
        _noted.pop(self._key, None)

    def is_noted(self) -> bool:
        """Tell whether it may still have to be done."""
        return self._key in _noted

    def settle(self) -> None:
        """Do it, unless it is being done; what breaks it off, but would not come again, leaves it
        noted."""
        self.is_due = True
        mark = Mark()
        try:
            if self._busy.is_entered():
                return
            if self._busy.acquire(mark, 0) and self._step() is not False:
                self.drop()
        except BaseException as error:
            self._broken_off += not isinstance(error, MemoryError)
            if is_final(error) or self._broken_off > _TRIES:
                self.drop()
            raise
        finally:
            mark.clear()


class Steps:
    """Steps that are done in their order, once each.

    What the kernel refuses is passed on once all are done. A step that is broken off (no memory, a
    handler's exception twice, the limit of recursion) breaks `run` off too: called again, it goes
    on with that step. None is left out, since the later ones end what the earlier ones look at.
    """

    def __init__(self, steps: list[Callable[[], object]]) -> None:
        self._left = steps
        self._refused: BaseException | None = None

    def run(self) -> None:
        """Do what is left."""
        for step in list(self._left):
            try:
                step()
            except MemoryError:
                raise
            except BaseException as error:
                if not is_final(error):
                    step()  # from its start: each may be done twice
                self._refused = self._refused or error
            with suppress(ValueError):  # another thread came here too
                self._left.remove(step)
        refused, self._refused = self._refused, None
        if refused is not None:
            raise refused


def is_final(error: BaseException) -> bool:
    """Tell whether an error comes again if what raised it is done again: the kernel's do, and our
    own; a lack of memory, and what a signal's handler raises, has only broken it off."""
    return isinstance(error, ShmMapError) or (
        isinstance(error, OSError) and error.errno is not None
    )


def finish() -> None:
    """Do what is due.

    Raises:
        MemoryError: there is still none.
    """
    for undo in list(_noted.values()):
        if undo.is_due and undo.enter is not None:
            _finish_one(undo)


def _finish_one(undo: Undo) -> None:
    try:
        with undo.enter():  # type: ignore[misc]
            if undo.is_noted():
                undo.settle()
    except Exception as error:
        if not is_final(error):
            raise
        # another one has the lock, and is at it; or what it undoes refused
