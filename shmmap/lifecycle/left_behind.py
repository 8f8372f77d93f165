"""Memory that a fork has left behind, in the pure engine.

A child that was forked in the middle of a change has the parent's frame of it on its stack, and
must not go on with it in shared memory. There the memory of that operation is no longer shared, and
new operations get new shards over the same mappings.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ..system.presences import alive
from .control import ENGINE

if TYPE_CHECKING:
    from .attachment import Attachment


def note_fork(attachment: Attachment) -> None:
    """In a forked child: whatever shard this thread was inside, its memory is for the operation
    that was interrupted, and no longer shared. Nor is what a mover of the parent fills."""
    for memory in attachment.places.private.values():
        memory.leave_behind()
    attachment.places.private = {}
    thread = threading.get_ident()
    locks = attachment.locks
    hosts = ((attachment, attachment.shards), (locks, locks.shards if locks else ()))
    for host, shards in hosts:
        if host is not None:
            inside = [shard for at, shard in host.held.copy().items() if at[0] == thread]
            if inside:
                for shard in (*shards, *inside):
                    shard.buffer.leave_behind()


def renew(attachment: Attachment) -> None:
    """Have new operations use new shards where a fork has left the old ones behind."""
    if ENGINE == "compiled":
        return
    places = attachment.places
    instead = {}
    for shard in attachment.distinct():
        if shard.buffer.left_behind:
            made = places.add(places.mapping_of(shard), places.label_of(shard), None,
                              places.shape_of(shard), shard.generation, shard.number).shard
            made.lock.semaphore, shard.lock.semaphore = shard.lock.semaphore, 0
            made.expiry.base_ns = shard.expiry.base_ns  # as it was when it was verified
            places.take_place(shard, made)
            instead[id(shard)] = made
    if instead:
        attachment.shards = [instead.get(id(shard), shard) for shard in attachment.shards]
        for handle in alive(attachment.handles):
            if handle.attachment is attachment:
                handle._route(attachment.shards)
    locks = attachment.locks
    if locks.shards[0].buffer.left_behind:
        shard = locks.shards[0]
        made = places.add(locks.mapping, places.label_of(shard), None, locks.geometry, 0, 0).shard
        made.lock.semaphore, shard.lock.semaphore = shard.lock.semaphore, 0
        made.expiry.base_ns = shard.expiry.base_ns
        locks.shards[:] = [made]
