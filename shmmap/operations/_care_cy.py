# mypy: ignore-errors
"""The care of one shard under its lock: sweeping, repairing, ending what is damaged, copying it.
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import copy_out, i64, load, room_of, store, u64
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        ALL_UNITS,
        S_DIRTY,
        S_ENTRIES,
        S_TOMBSTONES,
        S_TRACKING,
    )
    from shmmap.shard._shard_cy import Shard

from shmmap.operations.routing import ShardMoved

COMPILED = cython.compiled
HAS_PROBES: Any = PROBES_BUILT != 0 if cython.compiled else False  # see _probes.pxd
TOMBSTONES = 1  # in the place of a time before which an entry was written: those are swept


def sweep_part(handle, unit: Any, first: Any, written_before_ns: Any, limit: Any) -> Any:
    """Sweep some slots of the shard that has a unit of the hash, under one hold of its lock; return
    the slot to go on from, 0: done. It may be another shard by then.

    Removes at most `limit` expired entries (`written_before_ns` 0), or looks at `limit` slots
    for old ones, or at `limit` tombstones for those whose time is over (TOMBSTONES). A dead
    owner's lock is healed on the way.
    """
    shard: Shard
    from_slot: u64 = first
    before: u64 = written_before_ns
    most: u64 = limit
    following: u64 = 0
    handle.enter()
    try:
        shard = handle.shard_at(unit)
        tracker: u64 = load(shard.mem, S_TRACKING)  # judged before anything is held
        gone: cython.bint = tracker != 0 and handle.attachment.worker.is_dead(tracker)
        handle.refuse_reentry(shard)
        try:
            handle.hold(shard, ALL_UNITS)
            began: i64 = begin_sweep() if cython.compiled else 0
            entries: i64 = load(shard.mem, S_ENTRIES) if cython.compiled else 0
            if gone and load(shard.mem, S_TRACKING) == tracker:
                store(shard.mem, S_TRACKING, 0)
            if before == 1:  # TOMBSTONES
                if load(shard.mem, S_TOMBSTONES):
                    following = shard.sweep_tombstones(from_slot, handle.clock.now(), most)
            elif before:
                following = shard.sweep_aged(from_slot, before, most)
            elif shard.expiry.due(handle.clock.now()):
                following = shard.sweep_expired(from_slot, handle.clock.now(), most)
            if cython.compiled:
                probe_sweep(shard.mem, entries - load(shard.mem, S_ENTRIES), began)
        finally:
            handle.drop(shard)
    except ShardMoved:
        following = from_slot
    finally:
        handle.leave()
    return following


def rebuild_shard(handle, held: Any) -> None:
    """Rebuild what is derived in a shard from its slots, under its lock."""
    shard: Shard = held
    handle.enter()
    try:
        handle.attachment.restore_deadlines(shard)
        handle.refuse_reentry(shard)
        try:
            handle.hold(shard, ALL_UNITS)
            if shard.repairer is not None:
                handle.rebuild(shard)  # asked for, so no event
        finally:
            handle.drop(shard)
    finally:
        handle.leave()


def end_entries(handle, held: Any, entries: Any) -> None:
    """End the entries at these (slot, version), if they still are there, and repair."""
    shard: Shard = held
    slot: u64
    version: u64
    handle.enter()
    try:
        handle.refuse_reentry(shard)
        try:
            handle.hold(shard, ALL_UNITS)
            store(shard.mem, S_DIRTY, 1)
            for slot, version in entries:
                if shard.slots.version(slot) == version:
                    shard.slots.set_version(slot, 0)
            handle.mend(shard)
        finally:
            handle.drop(shard)
    finally:
        handle.leave()


def copy_shard(handle, held: Any, length: Any) -> Any:
    """Copy a shard's first `length` bytes under its lock."""
    shard: Shard = held
    room: Any = bytearray(length)
    handle.enter()
    try:
        handle.refuse_reentry(shard)
        try:
            handle.hold(shard, ALL_UNITS)
            copy_out(shard.mem, 0, room_of(room), 0, length)
        finally:
            handle.drop(shard)
    finally:
        handle.leave()
    return room
