"""A map that is found in the middle of being replaced, which takes microseconds unless its replacer
was stopped, or has died.

**Locks**: the replacer holds the creation lock of its user, whose the map is; so another process of
that user waits for it, and then says what came of it. Each user has such a lock of its own. Another
user waits until the replacer has said it, or the shards that it holds are held by the dead.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import LockTimeout
from ..memory._clock_cy import monotonic
from ..memory.layout import constants
from ..system import creation
from ..system.process import own_pid
from ..system.tasks import sleep
from . import routes

if TYPE_CHECKING:
    from .attachment import Attachment

K = constants()
_PATIENCE_S = 5.0
_PAUSE_S = 0.001


def is_ready(attached: Attachment) -> bool:
    """Tell whether a map is neither unlinked nor replaced; where it is just being replaced, wait
    for that.

    Raises:
        LockTimeout: its replacer is stopped.
    """
    state: int = attached.control.STATE
    if state == K["STATE_REPLACING"]:
        _settle(attached)
        state = attached.control.STATE
    return state == K["STATE_READY"]


def _settle(attached: Attachment) -> None:
    """Wait until the map has been replaced, or say what came of it where its replacer died."""
    if attached.owner_uid in (None, os.geteuid()):
        with creation.creation_lock(attached.name, _PATIENCE_S):
            _judge(attached)
        return
    until = monotonic() + _PATIENCE_S
    while attached.control.STATE == K["STATE_REPLACING"]:
        holder = _holder(attached)
        pid, _ = attached.worker.pid_of(holder)
        if holder and (pid == own_pid() or attached.worker.is_dead(holder)):  # the former: taken
            _judge(attached)  # over from it
        elif monotonic() > until:
            raise LockTimeout(
                f"map {attached.name!r} is just being replaced, by process {pid} of uid "
                f"{attached.owner_uid}. If it is stopped, continue it (kill -CONT) or end it"
            )
        else:
            sleep(_PAUSE_S)


def _holder(attached: Attachment) -> int:
    """Return who holds the map's first shard; 0: nobody, or another thread of this process may be
    unmapping shards just now."""
    if not attached.snapshots.acquire(blocking=False):
        return 0
    try:
        return int(routes.first_shard(attached).lock.owner())
    finally:
        attached.snapshots.release()


def _judge(attached: Attachment) -> None:
    if attached.control.STATE == K["STATE_REPLACING"]:
        is_there = attached.has_its_name()
        attached.control.STATE = K["STATE_READY" if is_there else "STATE_RETIRED"]
