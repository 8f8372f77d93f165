"""Named locks that could not be freed when they were left, and are freed by a thread.

Leaving a lock takes a step in the lock shard, and that shard's own lock may not be to be had in
time: its holder is stopped. Whoever leaves does not wait for that. The holding is forgotten, so
that this process takes it for abandoned; others cannot know that, and would wait for as long as
this process lives. So a thread tries again until it is done, and ends. A process that dies or
closes the map first needs none of it: it is dead to the others.
"""

from __future__ import annotations

import _thread
import time
from contextlib import suppress
from typing import Any

from .errors import LockTimeout, MapClosed, ShmMapError
from .locktable import LockTable

_STEP_NS = 50_000_000  # for so long at a time it waits inside: `close` waits for it
_PAUSE_S = 0.05


def free_later(attached: Any) -> None:
    """Free what this process has forgotten to hold, as soon as the lock shard lets it."""
    attached.locks.owed += 1
    with suppress(RuntimeError):  # the interpreter is going down, and the process with it
        _thread.start_new_thread(_settle, (attached,))


def _settle(attached: Any) -> None:
    part = attached.locks
    seen = -1
    while seen != part.owed and part.settling.acquire(blocking=False):  # else another thread does
        try:
            seen = part.owed
            while not _is_settled(attached):
                time.sleep(_PAUSE_S)
        finally:
            part.settling.release()


def _is_settled(attached: Any) -> bool:
    """Try once; tell whether there is nothing left to do."""
    handle = next(iter(list(attached.handles.values())), None)
    if handle is None:
        return True
    try:
        with handle._inside() as found:
            table = LockTable()
            table._bind(found.locks, _STEP_NS)
            table.drop_abandoned()
    except (LockTimeout, MapClosed):
        return False
    except ShmMapError:
        return True  # unlinked, or damaged: a repair drops what is
    return True
