"""Named locks that could not be freed when they were left, and are freed in the background.

Leaving a lock takes a step in the lock shard, and that shard's own lock may not be to be had in
time: its holder is stopped. Whoever leaves does not wait for that. The holding is forgotten, so
that this process takes it for abandoned; others cannot know that, and would wait for as long as
this process lives. So it is tried again until it is done, whatever the kernel refuses meanwhile:
see `background`. Where no thread could be started, the next use of the map that is not a mere read
or write starts one: a step with a named lock, a listing, `stats`, a sweep. A process that dies or
closes the map first needs none of it: it is dead to the others.

So it is where memory is short, and every step towards freeing a lock may fail, even the call of a
function. What broke off marks its holding as over, and that something is owed, by two stores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import LockTimeout, MapClosed, MapCorrupted, MapUnlinked
from ..system.background import Background
from ..system.presences import alive
from ..system.tasks import is_cooperative
from .lock_table import LockTable

if TYPE_CHECKING:
    from .hosts import Attached

_PAUSE_S = 0.05


def free_later(attached: Attached) -> None:
    """Free what this process has forgotten to hold, as soon as the lock shard lets it."""
    attached.locks.is_owing = True
    _start(attached)


def see_to_it(attached: Attached) -> None:
    """Have what is owed freed, where no thread could be started for it before."""
    if attached.locks.is_owing:
        _start(attached)


def _start(attached: Attached) -> None:
    part = attached.locks
    if part.freeing is None:
        part.freeing = Background(lambda: not _is_settled(attached), _PAUSE_S, at_once=True)
    part.freeing.start()  # also while it runs: it may have looked just before


def _is_settled(attached: Attached) -> bool:
    """Try once; tell whether there is nothing left to do."""
    part = attached.locks
    handle = next(iter(alive(attached.handles)), None)
    if handle is None:
        return True
    try:
        part.is_owing = False  # before: what is forgotten from now on is owed anew
        with handle._inside() as found:
            if found is not attached:  # the handle follows its name to another map
                return True
            if is_cooperative() and not part.can_be_had():
                raise LockTimeout  # to wait for it would hold up all greenlets of this thread
            table: LockTable = part.hasty_table()
            for hold in list(part.holds.values()):
                if hold.is_over:
                    part.forget(hold)
            table.drop_abandoned()
    except (MapUnlinked, MapCorrupted):
        return True  # nobody can have it any more, or a repair drops what is
    except BaseException as error:
        part.is_owing = True
        if isinstance(error, (LockTimeout, MapClosed)):
            return False
        raise
    return True
