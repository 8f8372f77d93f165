"""A handle whose map was unlinked goes over to the map that has the name now.

    1  take the handle's turn: one task at a time
    2  wait until no other task is in the middle of an operation of this handle; new ones find
       the map unlinked, and come here
    3  open the name as any opener does, under the creation lock, and make the map if there is
       none; under that lock the handle is pointed at the new memory
    4  let go of the former map, as for a handle that was collected

**Re-entry**: an operation that is called in the middle of one (by a handler, a finalizer, a value's
unpickling), or in the middle of this, is refused as the map is unlinked: what is further up the
stack still uses it. **Fork**: a child begins without the parent's operations and turns. **Death**:
what is left is what a dead opener leaves.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from ..errors import MapNotFound, MapUnlinked
from ..system.mutex import Mark
from .opening import wait_for

if TYPE_CHECKING:
    from ..locks.hosts import MapHandle
    from .attachment import Attachment
    from .request import Request

numbers = itertools.count(1)  # of handles: an id is given again, though vars() of one is kept
_told: set[str] = set()  # of which names this process has told


def reopen(
    handle: MapHandle, former: Attachment, request: Request, error: MapUnlinked
) -> None:
    """Have a handle use the map that has its name now, instead of the former one, which was found
    unlinked. `error`: what is raised where it cannot be, since this very task is in the middle of
    an operation of it."""
    if handle.attachment is not former:  # another thread was quicker
        return
    if not former.worker.fork_page.word:  # a child that never used it
        handle._after_fork()
    if handle._turn.is_entered() or handle._under_way()[1] or (
        former.sweeper is not None and former.sweeper.is_run_here()
    ):  # at once: who has the turn waits for the end of what this is in the middle of
        raise error
    patience_s = handle._lock_timeout + 1.0
    mark = Mark()
    turning = False
    try:
        if not handle._turn.acquire(mark, patience_s):
            raise error
        if handle.attachment is former and not handle.closed:
            turning = handle._turning = True
            _reopen(handle, former, request, error, patience_s)
    finally:
        if turning:
            handle._turning = False
        mark.clear()


def _reopen(
    handle: MapHandle, former: Attachment, request: Request, error: MapUnlinked, patience_s: float
) -> None:
    """Do it. The handle's turn is ours."""
    wait_for(handle, patience_s)
    if handle._under_way() != (0, 0):
        raise error
    kept = handle._last_words
    handle._ways.join_map(handle, next(numbers), request.again(former.parameters))
    _tell(handle.name, former.nonce)
    if handle.closed:  # meanwhile: its closing has let go of the former map only
        handle._last_words = None
    del kept  # lets go of the former map


def find_successor(
    handle: MapHandle, number: int, request: Request, gone: MapNotFound
) -> None:
    """Open the map that has the name now, instead of the one whose handle was pickled, if that is
    one that reopens by name. It makes none: whoever unlinked the map for good may have pickled the
    handle before. Else raise `gone`."""
    if request.nonce is None or request.on_unlinked != "reopen":
        raise gone
    try:
        handle._ways.join_map(handle, number, request._replace(nonce=None))
    except MapNotFound:
        raise gone from None
    _tell(request.name, request.nonce)


def _tell(name: str, nonce: int) -> None:
    """Say once in a process that a map was reopened."""
    if name in _told:
        return
    _told.add(name)
    import logging

    logging.getLogger("shmmap").warning(
        "map %r (%016x) was unlinked or replaced, or its files were removed: this process goes on "
        "with the map that has the name now. on_unlinked=\"raise\" raises MapUnlinked instead",
        name, nonce,
    )
