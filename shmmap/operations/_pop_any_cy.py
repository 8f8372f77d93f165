# mypy: ignore-errors
"""Taking some entry, whichever it is: the steps of `popitem` in one shard.

What is taken is decoded first, with nothing held, and removed only if it has not changed meanwhile.
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import (
        clock_ns,
        exactly,
        i64,
        load,
        new_room,
        store,
        target_of,
        u64,
    )
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        ALL_UNITS,
        BUCKET_WORDS,
        KEY_LENGTH_MASK,
        LOW_HALF,
        META_LENGTH_SHIFT,
        META_VALUE_TYPE_SHIFT,
        R_DELETES,
        S_DIRTY,
        S_ENTRIES,
        S_POP_HAND,
        TAG_SHIFT,
        TYPE_MASK,
        VALUE_ARRAY,
        VALUE_CODED,
        VALUE_PICKLE,
    )
    from shmmap.operations._decoding_cy import key_of, value_of
    from shmmap.shard._slots_cy import data_bytes, value_position
    from shmmap.shard._status import CORRUPT, FOUND, MISS, NO_ROOM, TAKEN

from shmmap.errors import LockTimeout

COMPILED = cython.compiled
ROUNDS = 8  # in which others may change what we have decoded, before it is taken at once


def take_any(handle, shard, found):
    """Remove some entry of a shard and return it as (key, value); None: there is none."""
    capacity: u64 = 512
    room: Any = None
    key: Any
    item: Any
    status: i64
    at: u64
    until_ns: i64 = 0
    tries: u64 = 0
    me: u64
    while True:
        if room is None:
            room = new_room(capacity)
        status = offer(handle, shard, room, capacity, tries >= ROUNDS, found)
        if status == MISS:
            return None
        if status == NO_ROOM:
            capacity = 2 * data_bytes(found.meta)
            room = None
            continue
        at = value_position(found.meta)
        key = key_of(handle, exactly(room, 0, found.meta & KEY_LENGTH_MASK), found)
        me = handle.token()
        try:
            item = (key, value_of(
                handle, exactly(room, at, found.meta >> META_LENGTH_SHIFT), found, key
            ))
            if status == TAKEN or (handle.token() != me and not handle.closed) or (
                take_offered(handle, shard, found)
            ):
                return item
        finally:
            if handle.near is not None:
                handle.near.drop(key)
        room = None  # it may be part of what was decoded
        tries += 1
        if tries >= ROUNDS:
            if until_ns == 0:
                until_ns = clock_ns(1) + handle.lock_timeout_ns
            give_up_at(handle, until_ns, shard)


def offer(handle, shard, room, capacity, at_once, found):
    """Copy some live entry's key and value into the room: FOUND, and where it was removed
    `at_once`, TAKEN; MISS: there is none, NO_ROOM."""
    status: i64 = MISS
    need: u64
    handle.enter()
    try:
        if not has_entries(shard):
            return MISS
        handle.refuse_reentry(shard)
        try:
            handle.hold(shard, ALL_UNITS)
            if find_any(handle, shard, found):
                need = data_bytes(found.meta)
                status = NO_ROOM if need > capacity else FOUND
                if status == FOUND:
                    store(shard.mem, S_POP_HAND, found.position + 1)  # the next is offered next
                    if not shard.slots.read(found.slot, 0, target_of(room), need):
                        handle.raise_for(CORRUPT, shard, 0)
                    if at_once and is_sure(found.meta):
                        handle.end_entry(shard, slot_hash(shard, found), found, True)
                        status = TAKEN
        finally:
            handle.drop(shard)
        if status == TAKEN:
            handle.count(R_DELETES)
        return status
    finally:
        handle.leave()


def take_offered(handle, shard, found):
    """Remove what was offered, if it still is there and has not changed."""
    taken: cython.bint = False
    handle.enter()
    try:
        handle.refuse_reentry(shard)
        try:
            handle.hold(shard, ALL_UNITS)
            taken = shard.confirm(found) and not shard.is_expired(found)
            if taken:
                handle.end_entry(shard, slot_hash(shard, found), found, True)
        finally:
            handle.drop(shard)
        if taken:
            handle.count(R_DELETES)
        return taken
    finally:
        handle.leave()


def find_any(handle, shard, found):
    """Find some live entry under the lock, going round from where the last one was."""
    words: u64 = shard.index.buckets * BUCKET_WORDS
    start: u64 = load(shard.mem, S_POP_HAND)
    lap: u64
    status: i64
    position: u64 = start if start < words else 0
    for lap in range(2):
        while True:
            status = shard.scan(position, found)
            if status != FOUND:
                break
            if not shard.is_expired(found):
                if found.word >> TAG_SHIFT != slot_hash(shard, found) & LOW_HALF:
                    status = CORRUPT  # to take it out by this hash would harm others
                    break
                return True
            position = found.position + 1
        if status < 0:
            handle.mend(shard)
        position = 0
    return False


def give_up_at(handle, until_ns, shard):
    """Raise once the time is over in which others have changed what we decoded."""
    if clock_ns(1) >= until_ns:
        raise LockTimeout(
            f"map {handle.name!r}, shard {shard.number}: other workers have written the entry "
            f"again each time before it could be removed, for {handle.lock_timeout_ns / 1e9:g} "
            "s; nothing was removed. Have fewer of them write it, or raise lock_timeout="
        )
    return 0


def is_sure(meta):
    """Tell whether an entry's value is decoded without anybody's code, which could fail."""
    kind: u64 = (meta >> META_VALUE_TYPE_SHIFT) & TYPE_MASK
    return kind != VALUE_PICKLE and kind != VALUE_ARRAY and kind != VALUE_CODED


def has_entries(shard):
    """Tell whether a shard may hold entries, expired ones included; under a change the count
    may be behind."""
    return load(shard.mem, S_ENTRIES) != 0 or load(shard.mem, S_DIRTY) != 0


def slot_hash(shard, found):
    """Hash the key of a found entry."""
    return shard.slot_hash(found.slot, found.meta)
