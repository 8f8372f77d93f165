"""What happens to a handle that is not closed but collected."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from ..locks.holdings import let_all_go
from ..system.presences import Presences
from ..system.unfinished import Undo
from . import event_ring, opening

if TYPE_CHECKING:
    from .attachment import Attachment

_kept: dict[int, tuple[Undo, Presences]] = {}  # by handle: how it is let go, and who knows it


def keep(attachment: Attachment, key: int) -> object:
    """Make what a handle of that number alone refers to, as long as it has to be let go: where it
    is part of garbage, that goes after all finalizers, which may still use the handle."""
    for old, (undo, presences) in _kept.copy().items():
        if presences.has_gone(old):  # and could not even say so
            undo.is_due = True
    _kept[key] = Undo(lambda: _let_go(attachment, key), nullcontext), attachment.presences
    return attachment.presences.note(key, lambda _: _has_gone(key))


def _has_gone(key: int) -> None:
    try:
        _say(key)
    except MemoryError:  # what is due is done later
        pass
    except BaseException:  # a signal handler's: finish all the same
        _say(key)
        raise


def _say(key: int) -> None:
    kept = _kept.get(key)
    if kept is not None:
        kept[0].settle()
        _kept.pop(key, None)


def _let_go(found: Attachment, key: int) -> None:
    event_ring.tell_last(found)
    found.end_use(key)
    let_all_go(found, key, None)
    if not found.is_used():
        opening.release(found, 0)  # else when a map is opened or closed, or at exit


def are_kept(key: int) -> bool:
    """Tell whether a handle is still to be let go."""
    return key in _kept


def forget(key: int) -> None:
    """Have nothing happen any more."""
    kept = _kept.pop(key, None)
    if kept is not None:
        kept[0].drop()
