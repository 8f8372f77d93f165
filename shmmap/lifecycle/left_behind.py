"""Memory that a fork has left behind, in the pure engine.

A child that was forked in the middle of a change has the parent's frame of it on its stack, and
must not go on with it in shared memory. There the memory of that operation is no longer shared, and
new operations get new shards over the same mappings.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ..shard._repair_cy import Repairer
from .control import ENGINE

if TYPE_CHECKING:
    from ..memory import geometry
    from ..shard._shard_cy import Shard
    from ..system import segment
    from .attachment import Attachment


def note_fork(attachment: Attachment) -> None:
    """In a forked child: whatever shard this thread was inside, its memory is for the operation
    that was interrupted, and no longer shared."""
    thread = threading.get_ident()
    locks = attachment.locks
    hosts = ((attachment, attachment.shards), (locks, locks.shards if locks else ()))
    for host, shards in hosts:
        if host is not None and thread in {at[0] for at in host.held}:
            for shard in shards:
                shard.buffer.leave_behind()


def renew(attachment: Attachment) -> None:
    """Have new operations use new shards where a fork has left the old ones behind."""
    if ENGINE == "compiled":
        return
    if True in {shard.buffer.left_behind for shard in attachment.shards}:
        attachment.shards[:] = [
            _successor(attachment, shard, mapping, attachment.geometry)
            for shard, mapping in zip(attachment.shards, attachment.mappings, strict=True)
        ]
        attachment.repairers[:] = [Repairer(shard) for shard in attachment.shards]
    locks = attachment.locks
    if locks.shards[0].buffer.left_behind:
        shard = _successor(
            attachment, locks.shards[0], attachment.lock_mappings[0], locks.geometry
        )
        locks.shards[:] = [shard]
        locks.repairers[:] = [Repairer(shard)]


def _successor(
    attachment: Attachment, shard: Shard, mapping: segment.Mapping, shape: geometry.Geometry
) -> Shard:
    """Make a shard that takes the place of one that was left behind, with its semaphore."""
    made = attachment.shard_over(mapping, None, shape, shard.number)
    made.lock.semaphore, shard.lock.semaphore = shard.lock.semaphore, 0
    return made
