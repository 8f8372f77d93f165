"""What happens to a handle that is not closed but collected."""

from __future__ import annotations

from typing import Any

from . import opening
from .locks import let_all_go

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
            left = forget(self)
            if left is not None:
                found, key = left
                found.handles.pop(key, None)
                let_all_go(found, key, None)
                if not found.handles:
                    opening.release_soon(found)
        except MemoryError:  # whoever opens or closes a map next finds it without handles
            pass


def keep(attachment: Any, key: int) -> LastWords:
    """Make what a handle of that number refers to, as long as it has to be let go."""
    words = LastWords()
    _kept[id(words)] = attachment, key
    return words


def are_kept(words: Any) -> bool:
    """Tell whether something is still to be let go."""
    return id(words) in _kept


def forget(words: Any) -> tuple[Any, int] | None:
    """Have nothing happen any more; give what was to be let go, once."""
    return _kept.pop(id(words), None)
