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

_noted: dict[int, Undo] = {}


class Undo:
    """A step that undoes something, as often as it is called; nothing is missed if it breaks off.
    It gives False where it has to be called again.

    Attributes:
        is_due: it has to be done now; until then what it would undo is still under way, or used.
    """

    __slots__ = ("_busy", "_key", "_step", "enter", "is_due")

    def __init__(self, step: Callable[[], Any], enter: Callable[[], Any] | None = None) -> None:
        self._step = step
        self.enter = enter  # gives the lock that the step needs, for those who hold none
        self.is_due = False
        try:
            self._busy = threading.Lock()
        except RuntimeError:  # so Python says that there is no memory for it
            raise MemoryError from None
        self._key = id(self)
        _noted[self._key] = self

    def drop(self) -> None:
        """Forget it: it is done, or need not be done any more."""
        _noted.pop(self._key, None)

    def is_noted(self) -> bool:
        """Tell whether it may still have to be done."""
        return self._key in _noted

    def settle(self) -> None:
        """Do it, unless another one is at it; what breaks it off, beside errors that would come
        again, leaves it noted."""
        self.is_due = True
        if not self._busy.acquire(False):
            return
        try:
            if self._step() is not False:
                self.drop()
        except (OSError, ShmMapError):
            self.drop()
            raise
        finally:
            self._busy.release()


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
    except MemoryError:
        raise
    except Exception:  # another one has the lock, and is at it; or what it undoes refused
        pass
