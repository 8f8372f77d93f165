"""What happens to a handle that is not closed but collected."""

from __future__ import annotations

from typing import Any

from . import opening
from .holds import let_all_go

_kept: dict[int, tuple[Any, int]] = {}  # by what will go: the attachment, and the handle's number


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
        except MemoryError:  # whoever opens or closes a map next finds it without handles
            pass
        except BaseException:  # a signal handler's: finish all the same
            _say(self)
            raise


def _say(words: Any) -> None:
    found, key = _kept.get(id(words), (None, 0))
    if found is not None:
        found.handles.pop(key, None)
        let_all_go(found, key, None)
        if not found.handles:
            opening.release(found, 0)  # else when a map is opened or closed, or at exit
        forget(words)


def keep(attachment: Any, key: int) -> LastWords:
    """Make what a handle of that number refers to, as long as it has to be let go."""
    words = LastWords()
    _kept[id(words)] = attachment, key
    return words


def are_kept(words: Any) -> bool:
    """Tell whether something is still to be let go."""
    return id(words) in _kept


def forget(words: Any) -> None:
    """Have nothing happen any more."""
    _kept.pop(id(words), None)
