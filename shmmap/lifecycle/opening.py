"""Opening, leaving and unlinking maps in one process: which attachments it has.

Every way in may be interrupted by a signal handler or a finalizer that goes the same way. So what
is done is found out again after each step that others could have taken meanwhile; an attachment is
registered before the process joins by it, so that there are never two of one map, whose closing
would drop each other's record locks; and a handle is noted before it is bound, so that nobody takes
its attachment down.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from typing import TYPE_CHECKING

from ..errors import (
    ConfigMismatch,
    LockTimeout,
    MapCorrupted,
    MapExists,
    MapNotFound,
    MapUnlinked,
    ShmMapError,
    SystemCallError,
)
from ..memory._clock_cy import monotonic
from ..memory.layout import constants
from ..system import creation, elsewhere, segment, unfinished
from ..system.presences import alive
from ..system.process import OWN_NUMBER, this_process
from ..system.tasks import others_run, sleep
from ..system.unfinished import Undo
from . import left_behind, siblings
from .attached import attachments as _attachments
from .attached import nonces
from .attachment import Attachment
from .control import ENGINE, RETIRED, STATE_AT, Control, Remains, open_control
from .making import Successor, make_map, remove_all_dead
from .parameters import Parameters
from .request import Request, differs

if TYPE_CHECKING:
    from ..locks.hosts import MapHandle

K = constants()
_EXIT_PATIENCE_S = 1.0  # for a process that opens or closes the map


def join_map(handle: MapHandle, number: int, request: Request) -> Attachment:
    """Bind a handle, under a new number, to this process's attachment to a map, creating the map
    if need be and allowed."""
    elsewhere.refuse(f"map {request.name!r}")
    finish_leaving()
    while True:
        found = None
        try:
            with creation.creation_lock(request.name) as turn:
                found = _join(handle, number, request, turn)
        except creation.Forked:
            continue
        except MemoryError:
            if found is None:
                raise
        if found is not None:  # also where there was no memory for a call in leaving the lock
            return found


def _refuse_without_room(request: Request, former: Control) -> None:
    """Keep the map that a fresh one is to replace where there is no room for that. What it has
    comes back only if nobody has it open."""
    name, back = request.name, 0
    if former.NONCE not in nonces(name) and not former.is_used(name, 0o666, request.owner_uid):
        back = sum(map(segment.allocated_bytes, former.object_files(name)))
    segment.check_room(
        f"map {name!r}, fresh=True (the one that has the name stays as it is)",
        request.wanted.plan().total_bytes - back,
    )


def _join(
    handle: MapHandle, key: int, request: Request, turn: creation.Turn
) -> Attachment | None:
    """Do it once; None: begin again. The creation lock is held."""
    name, owner_uid = request.name, request.owner_uid
    found, made = None if request.fresh else _known(name), False
    if found is None:
        mapped = _Mapped()
        closing = Undo(mapped.close, lambda: creation.name_mutex(name, 0))
        try:
            mode = 0o666 if request.fresh else request.wanted.mode  # of what goes, none is refused
            seen = mapped.control = open_control(name, mode, owner_uid, nonces(name))
            if request.fresh and isinstance(seen, Control):
                _refuse_without_room(request, seen)
                seen = mapped.control = Remains(name, seen.identity, seen)
            if not isinstance(seen, Control):
                if request.nonce is not None or not request.may_create or (
                    owner_uid not in (None, os.geteuid())
                ):
                    raise _not_found(request)
                siblings.tell(request)
                seen = mapped.control = make_map(name, request.wanted, turn, seen)
                made = True
            else:
                siblings.tell(request)
            found = None if seen is None else _attach(request, seen, turn)
        except BaseException:
            closing.is_due = True
            control = mapped.control
            undo = control.undo if made and isinstance(control, Control) else None
            if undo is not None:
                undo.is_due = True
                try:  # no call: there may be no memory for any
                    if OWN_NUMBER[0] == turn.process:
                        control.words[STATE_AT] = RETIRED  # type: ignore[union-attr]
                except ValueError:  # it is closed
                    pass
            closing.settle()
            if undo is not None:
                undo.settle()
            raise
        closing.drop()
        if found is None:
            return None
    else:
        check(request, found.parameters, found.nonce)
    try:
        found.handles[key] = handle
        if found.is_down or _attachments.get((name, found.nonce)) is not found:
            found.end_use(key)
            if found.control.undo is not None:  # it was published, and could be used
                found.control.undo.drop()
            return None
        found.reenter()
        turn.check()
        handle._use(found, key)
        if found.control.undo is not None:
            found.control.undo.drop()
    except BaseException as error:
        if handle._turning and handle.attachment is found:  # it has gone over, and that stays
            if found.control.undo is not None:
                found.control.undo.drop()
            raise
        undo, noted = found.control.undo if made else None, found.presences.noted
        if undo is not None and len(noted) <= (key in noted):  # it has no other handle
            undo.is_due = True
            try:  # no call of Python's up to here, as above
                if OWN_NUMBER[0] == turn.process:
                    found.control.words[STATE_AT] = RETIRED
            except ValueError:
                pass
        found.end_use(key)
        if not found.is_used():
            _take_down(found, turn.is_ours())  # a child lets go of what it has of it, too
            if undo is not None:
                undo.settle()
            if isinstance(error, MapUnlinked) and found.parameters.ephemeral:
                return None  # the last of another user has left it meanwhile
        raise
    return found


class _Mapped:
    """What is mapped of a map before an attachment has it: its control segment."""

    control: Control | Remains | None = None

    def close(self) -> None:
        """Unmap it, unless an attachment has it. Idempotent."""
        kept = self.control
        if kept is not None and kept not in [one.control for one in list(_attachments.values())]:
            kept.close()


def _attach(request: Request, control: Control, turn: creation.Turn) -> Attachment | None:
    """Make an attachment to a map that is mapped so far as its control segment; None: begin
    again."""
    name = request.name
    give_back: Undo | None = None
    try:
        if control.undo is None:
            check(request, Parameters.load(control), control.NONCE)
        mine = Attachment(name, control, request.owner_uid, leave_at_exit)
        give_back = Undo(lambda: _unmap(mine), lambda: creation.name_mutex(name, 0))
        mine.map_parts()
        found = _attachments.setdefault((name, mine.nonce), mine)
        if found is not mine:
            mine.unmap()
        give_back.drop()
        return found
    except BaseException as error:
        if give_back is not None:
            give_back.is_due = True
        if control.undo is not None and turn.is_ours():
            control.retire()
        # then no part is missing: a handler has unlinked the map meanwhile
        unlinked = isinstance(error, MapCorrupted) and (
            segment.identity_at(segment.control_name(name)) != control.identity
        )
        if give_back is not None:
            give_back.settle()
        if unlinked:
            control.close()
            return None
        raise


def open_apart(handle: MapHandle, number: int, successor: Successor) -> None:
    """Bind a handle to a map that has no name yet. The creation lock is held."""
    mine = Attachment(successor.name, successor.control, None, leave_at_exit)
    mine.is_apart = True
    give_back = Undo(lambda: _unmap(mine), lambda: creation.name_mutex(successor.name, 0))
    try:
        mine.map_parts()
        _attachments[mine.name, mine.nonce] = mine
        mine.handles[number] = handle
        mine.reenter()
        handle._use(mine, number)
    except BaseException:
        mine.end_use(number)
        give_back.settle()
        raise
    give_back.drop()


def _unmap(mine: Attachment) -> None:
    """Take down what could not be attached in full, unless a handler has opened the map by it."""
    key = mine.name, mine.nonce
    if _attachments.get(key) is mine:
        if mine.is_used():
            return
        _attachments.pop(key, None)
    mine.unmap()


def _known(name: str) -> Attachment | None:
    """Return this process's attachment to the map that has the name now. Opens no file."""
    for (known, _), found in _attachments.copy().items():
        if known == name and not found.is_down and (
            found.control.STATE == K["STATE_READY"]
            and found.has_its_name()
        ):
            return found
    return None


def attached(name: str, nonce: int) -> Attachment | None:
    """Return this process's attachment to a map, if it has one by which it is a worker."""
    found = _attachments.get((name, nonce))
    return found if found is not None and found.worker.file is not None else None


def _not_found(request: Request) -> MapNotFound:
    return MapNotFound(
        f"no map {request.name!r}"
        + (f" of uid {request.owner_uid}" if request.owner_uid is not None else "")
        + (" (the one that was pickled is gone)" if request.nonce is not None else "")
        + ": create it first, or check the spelling (python -m shmmap ls)"
        + ("" if request.nonce is not None else siblings.hint(
            request.name, os.geteuid() if request.owner_uid is None else request.owner_uid))
    )


def check(request: Request, actual: Parameters, nonce: int) -> None:
    """Refuse a map that is there, but not the one that is wanted."""
    name = request.name
    if not request.may_attach:
        raise MapExists(f"map {name!r} exists: attach to it, or unlink it first")
    if request.nonce is not None and nonce != request.nonce:
        raise MapNotFound(f"map {name!r} was unlinked and made anew since it was pickled")
    if differs(request, actual, nonce):
        raise ToBeReplaced


class ToBeReplaced(Exception):
    """The map has another shape than its opener asks for, who wants it replaced."""


# -- leaving ------------------------------------------------------------------------------


def _lock_of(
    attachment: Attachment, patience_s: float
) -> contextlib.AbstractContextManager[object]:
    """Return the lock under which an attachment is taken down."""
    if attachment.parameters.ephemeral:
        return creation.creation_lock(attachment.name, patience_s)
    return creation.name_mutex(attachment.name, patience_s)


def release(attachment: Attachment, patience_s: float = creation.CREATION_TIMEOUT_S) -> bool:
    """Take an attachment down once no handle is left; tell whether that is done.

    Only an ephemeral map's takes the creation lock: what is left of another one keeps nobody.
    """
    if attachment.is_private:
        attachment.leave(False, lambda: False)
        return True
    while True:
        try:
            with _lock_of(attachment, patience_s):
                if not attachment.is_used():
                    _take_down(attachment)
            return True
        except LockTimeout:
            return False
        except creation.Forked:
            continue
        except (SystemCallError, ConfigMismatch):  # no such lock is to be had here, as after chroot
            with creation.name_mutex(attachment.name, None):
                if not attachment.is_used():
                    _take_down(attachment)
            return True


def _take_down(attachment: Attachment, may_remove: bool = True) -> None:
    """Let go of a map. The name's mutex is held; an ephemeral map's creation lock, too."""
    key = attachment.name, attachment.nonce
    if not attachment.is_down and _attachments.get(key) is attachment:
        Undo(lambda: _leave(attachment, may_remove), lambda: _lock_of(attachment, 0)).settle()


def _leave(attachment: Attachment, may_remove: bool) -> None:
    key = attachment.name, attachment.nonce
    if not attachment.is_used():
        if _attachments.get(key) is attachment:
            _attachments.pop(key, None)
        attachment.leave(may_remove, lambda: key in _attachments)


def finish_leaving() -> None:
    """Take down what has no handle any more but could not be taken down just then, and do whatever
    else is still to be undone.

    Raises:
        MemoryError: there is none for that.
    """
    for found in list(_attachments.values()):
        if not found.is_used():
            release(found, 0)
    unfinished.finish()


def retire(attachment: Attachment) -> None:
    """Mark a map as unlinked and remove its objects, never a successor's."""
    with creation.creation_lock(attachment.name) as turn:
        if attachment.has_its_name():
            refuse_to_unlink(attachment.name)
        elif attachment.control.STATE == K["STATE_RETIRED"]:
            return  # else somebody has removed the name only, or cut the segment off
        turn.check()
        undo = Undo(attachment.remove_files, lambda: creation.creation_lock(attachment.name, 0))
        attachment.control.STATE = K["STATE_RETIRED"]
        undo.settle()
        remove_all_dead(attachment.name)


def refuse_to_unlink(name: str) -> None:
    """Raise PermissionError where a map's objects are another user's, before any is touched."""
    owner = segment.owner_at(segment.control_name(name))
    if os.geteuid() not in (0, owner) and owner is not None:
        raise PermissionError(
            f"map {name!r} belongs to uid {owner}: only that user, or root, can unlink it"
        )


def wait_for(handle: MapHandle, patience_s: float) -> None:
    """Wait until no operation of a sealed handle is under way in another thread."""
    deadline = monotonic() + patience_s
    while handle._under_way()[0] and monotonic() <= deadline and others_run():
        sleep(0.0005)


# -- the end of the process -----------------------------------------------------------------


def leave_all() -> None:
    """Close what must be closed at this process's exit: handles on ephemeral maps, which the last
    one to leave removes. All others stay as they are. What was registered for exit earlier runs
    later, logging's handlers among it, and may still write; and the end of a process gives back
    all that it had."""
    for attachment in list(_attachments.values()):
        if attachment.parameters.ephemeral:
            for handle in alive(attachment.handles):
                with contextlib.suppress(ShmMapError, OSError):
                    handle.close()
            with contextlib.suppress(ShmMapError, OSError):
                # if its handles were dropped while a map was being opened
                release(attachment, _EXIT_PATIENCE_S)
        else:
            attachment.note_leaving()
    finish_leaving()


_registered_in = 0
_AFTER_QUEUES = -100  # of what multiprocessing does at exit: its queues' threads pickle handles


class _Children:
    """What multiprocessing knows its children's finalizer by."""


_children = _Children()
_are_known = False


def leave_at_exit() -> None:
    """Have `leave_all` called at exit, in multiprocessing's children too, which run no atexit."""
    global _registered_in
    if _registered_in != this_process():
        if not _registered_in:
            atexit.register(leave_all)
            os.register_at_fork(before=_make_known)
        _registered_in = this_process()
        if "multiprocessing.process" in sys.modules:
            import multiprocessing.process

            if multiprocessing.process.parent_process() is not None:
                _leave_as_child()


def _make_known() -> None:
    """Have multiprocessing's forked children leave, also those that use no map themselves. What is
    registered by another way is forgotten as they begin."""
    global _are_known
    register = getattr(sys.modules.get("multiprocessing.util"), "register_after_fork", None)
    if register is not None and not _are_known:
        _are_known = True
        register(_children, _leave_as_child)


def _leave_as_child(_: object = None) -> None:
    global _registered_in
    from multiprocessing import util

    _registered_in = this_process()
    util.Finalize(None, leave_all, exitpriority=_AFTER_QUEUES)


def _after_fork() -> None:
    """In a forked child: have the operation that was forked in the middle of a change fail."""
    for attachment in list(_attachments.values()):
        if not attachment.is_down:
            left_behind.note_fork(attachment)


if ENGINE == "pure":  # the compiled one runs nobody's code there
    os.register_at_fork(after_in_child=_after_fork)
