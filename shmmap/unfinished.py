"""What has to be undone and could not be yet, most often for want of memory.

Where memory is short the steps that undo something fail like all others. So whatever will have to
be undone should what is under way fail is noted here before that begins, while there is memory to
note it; `is_due` is set by a store, which needs none. What is due then is done at once if that can
be, else when this process next opens or closes a map, or as it ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from .errors import ShmMapError
from .tasks import new_lock

_TRIES = 5  # of what is broken off again and again, and not for want of memory
_noted: dict[int, Undo] = {}


class Undo:
    """A step that undoes something, as often as it is called; nothing is missed if it breaks off.
    It gives False where it has to be called again.

    Attributes:
        is_due: it has to be done now; until then what it would undo is still under way, or used.
    """

    __slots__ = ("_broken_off", "_busy", "_key", "_step", "enter", "is_due")

    def __init__(self, step: Callable[[], Any], enter: Callable[[], Any] | None = None) -> None:
        self._step = step
        self.enter = enter  # gives the lock that the step needs, for those who hold none
        self.is_due = False
        self._broken_off = 0  # how often
        self._busy = new_lock(threading.RLock)
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
        if self._busy._is_owned():
            return
        try:
            if self._busy.acquire(False) and self._step() is not False:
                self.drop()
        except BaseException as error:
            self._broken_off += not isinstance(error, MemoryError)
            if is_final(error) or self._broken_off > _TRIES:
                self.drop()
            raise
        finally:
            if self._busy._is_owned():
                self._busy.release()


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
