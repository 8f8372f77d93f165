"""What happens to a handle that is not closed but collected."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from . import opening
from .holds import let_all_go
from .unfinished import Undo

_kept: dict[int, Undo] = {}  # by what will go: how its handle is let go


class LastWords:
    """What a handle alone refers to, so that it goes when the handle has gone.

    The collector does not know objects without attributes. So where a handle is part of garbage,
    this goes after all finalizers of that garbage, which may still use the handle; a weak
    reference's callback would come before them.
    """

    __slots__ = ()

    def __del__(self) -> None:
        try:
            _say(self)
        except MemoryError:  # what is due is done later; else see `keep`
            pass
        except BaseException:  # a signal handler's: finish all the same
            _say(self)
            raise


def _say(words: Any) -> None:
    undo = _kept.get(id(words))
    if undo is not None:
        undo.settle()
        _kept.pop(id(words), None)


def _let_go(found: Any, key: int) -> None:
    found.handles.pop(key, None)
    let_all_go(found, key, None)
    if not found.handles:
        opening.release(found, 0)  # else when a map is opened or closed, or at exit


def keep(attachment: Any, key: int) -> LastWords:
    """Make what a handle of that number refers to, as long as it has to be let go."""
    words = LastWords()
    old = _kept.get(id(words))
    if old is not None:  # that one has gone, and could not even say so
        old.is_due = True
    _kept[id(words)] = Undo(lambda: _let_go(attachment, key), nullcontext)
    return words


def are_kept(words: Any) -> bool:
    """Tell whether something is still to be let go."""
    return id(words) in _kept


def forget(words: Any) -> None:
    """Have nothing happen any more."""
    undo = _kept.pop(id(words), None)
    if undo is not None:
        undo.drop()
