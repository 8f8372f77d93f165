# mypy: ignore-errors
"""Listing the entries of a shard: without its lock, as long as that can be validated.
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import (
        exactly,
        i64,
        key_t,
        load,
        new_key,
        new_probe,
        new_room,
        probe_t,
        target_of,
        u64,
    )
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        ALL_UNITS,
        KEY_LENGTH_MASK,
        KEY_STR,
        KEY_TYPE_MASK,
        META_KEY_TYPE_SHIFT,
        META_LENGTH_SHIFT,
        META_VALUE_TYPE_SHIFT,
        R_LOCKED_READS,
        R_RETRIES,
        S_MOVED,
        S_REBUILDS,
        TYPE_MASK,
        UNIT_BITS,
        UNIT_SHIFT,
        VALUE_BYTES,
        VALUE_INSIDE,
    )
    from shmmap.operations._decoding_cy import key_of, value_of
    from shmmap.shard._shard_cy import Shard
    from shmmap.shard._slots_cy import data_bytes, is_tombstone, value_position
    from shmmap.shard._status import AGAIN, COPIED, CORRUPT, FOUND, MISS, NO_ROOM, READ_TRIES
    from shmmap.values._keys_cy import encode as encode_key

from shmmap.errors import MapUnlinked, ValueUnreadable
from shmmap.operations.routing import ShardMoved

COMPILED = cython.compiled
RAW = 2  # of `wants_values`: the bytes are wanted, and nothing decoded


def list_entries(
    handle, unit: Any, wants_values: Any, prefix: Any = None, on_unreadable: Any = None,
) -> tuple:
    """List the live entries of the shard that has a unit of the hash, from there on, as keys or as
    (key, value) pairs: (the unit after it, the list). With `prefix`, a str or bytes, only those
    whose key is of that type and starts so. An entry whose value cannot be read is left out, and
    its error given to `on_unreadable`, if there is one, else raised.

    Weakly consistent: an entry that is there throughout is listed exactly once: see `order`.
    """
    following, listed = list_part(handle, unit, wants_values, prefix)
    return following, decoded(handle, listed, wants_values, on_unreadable)


def list_raw(handle, unit: Any) -> tuple:
    """List the live entries of a shard as (key, value type, value bytes): see `list_entries`, and
    `decode_listed`."""
    following, listed = list_part(handle, unit, RAW, None)
    return following, [
        (key, (listed[3 * at] >> META_VALUE_TYPE_SHIFT) & TYPE_MASK, listed[3 * at + 2])
        for at, key in enumerate(decoded(handle, listed, False, None))
    ]


def list_part(handle, unit, wants_values, prefix):
    """List a shard raw, from a unit on: (the unit after it, the list); again where it has moved."""
    shard: Shard
    listed: Any = None
    while True:
        handle.come_in()
        try:
            shard = handle.shard_at(unit)
            if not handle.is_whole(shard):
                handle.make_whole(shard)
            listed = scan_shard(handle, shard, unit, wants_values, prefix)
            if load(shard.mem, S_MOVED):
                handle.reroute(shard, unit)
                continue
            if handle.near is not None:
                handle.near.reseal()
            handle.look_now()
            return shard.unit_after(), listed
        except ShardMoved:
            continue
        except MapUnlinked as error:  # it was replaced as we waited; the new one has its order
            if not handle._may_follow(error):
                raise
        finally:
            handle.leave()


def scan_shard(handle, shard, unit, wants_values, prefix):
    """List a shard without the lock, as meta word (None: there is nothing to decode), key or its
    bytes, value's bytes, and so on; an index rebuilt
    meanwhile is listed again."""
    found: probe_t = new_probe()
    start: key_t = new_key()
    start.type = 0  # every key
    start.hash = 0  # and the least hash
    if unit << shard.shard_bits != shard.number << UNIT_BITS:
        start.hash = unit << UNIT_SHIFT
    kept: Any = None
    if prefix is not None:
        least: u64 = start.hash
        kept = encode_key(prefix, handle.seed, start)  # one too long for a key starts none
        start.hash = least
    listed: list = []
    position: u64 = 0
    rebuilds: u64 = whole_index(handle, shard)
    tries: u64 = 0
    status: i64
    while True:
        status = scan_one(handle, shard, position, found, start, wants_values, listed)
        if status == FOUND:
            position = found.position + 1
            tries = 0
        elif status == AGAIN and tries < READ_TRIES:
            position = found.position
            tries += 1
            handle.count(R_RETRIES)
            if load(shard.mem, S_MOVED):
                return listed
        elif status < 0:
            status = scan_locked(handle, shard, position, found, start, wants_values, listed)
            if status == FOUND:
                position = found.position + 1
                tries = 0
        if status == MISS:
            if shard_rebuilds(shard) == rebuilds:
                return listed
            listed = []
            position = 0
            rebuilds = whole_index(handle, shard)


def whole_index(handle, shard):
    """Load REBUILDS, which is even while the index is whole; where it is being rebuilt, or
    its rebuilder died, wait for the lock first: a listing of half an index would not show
    what it lacks."""
    rebuilds: u64 = shard_rebuilds(shard)
    while rebuilds & 1:
        handle.refuse_reentry(shard)
        try:
            handle.hold(shard, ALL_UNITS)
            if shard_rebuilds(shard) & 1:  # nobody is at it, since we hold the lock: damage
                handle.mend(shard)
        finally:
            handle.drop(shard)
        rebuilds = shard_rebuilds(shard)
    return rebuilds


def scan_one(handle, shard, position, found, start, wants_values, listed):
    """Append the next live entry's raw parts to `listed`; FOUND, MISS or AGAIN."""
    status: i64 = shard.scan(position, found)
    if status != FOUND:
        return status
    if is_left_out(shard, found, start):
        return FOUND if shard.confirm(found) else AGAIN
    if cython.compiled and wants_values != RAW and is_short_text(found):
        return scan_text(shard, found, wants_values, listed)
    raw_key: Any = shard.raw_key(found)
    raw_value: Any = shard.raw_value(found) if wants_values else b""
    expired: cython.bint = shard.is_expired(found)
    if not shard.confirm(found) or raw_key is None or raw_value is None:
        return AGAIN
    if not expired:
        listed.append(found.meta)  # one by one: a tuple could start a garbage collection,
        listed.append(raw_key)  # and somebody's finalizers, under the lock
        listed.append(raw_value)
    return FOUND


def is_short_text(found):
    """Tell whether a key is a str that there is room for in the probe; confirm it."""
    return (found.meta >> META_KEY_TYPE_SHIFT) & KEY_TYPE_MASK == KEY_STR and (
        found.meta & KEY_LENGTH_MASK <= VALUE_INSIDE
    )


def scan_text(shard, found, wants_values, listed):
    """Do the rest of `scan_one` for such a key, compiled: the key is made here, and where its value
    is what it is, nothing is left to decode. The meta word is None then."""
    if cython.compiled:
        length: u64 = found.meta & KEY_LENGTH_MASK
        kind: u64 = (found.meta >> META_VALUE_TYPE_SHIFT) & TYPE_MASK
        if not shard.slots.read(found.slot, 0, cython.cast("char*", found.inside), length):
            return AGAIN
        raw_value: Any = shard.raw_value(found) if wants_values else b""
        expired: cython.bint = shard.is_expired(found)
        if not shard.confirm(found) or raw_value is None:
            return AGAIN
        if not expired:
            key: Any = ascii_text(found.inside, 0, length)
            if type(key) is str and (not wants_values or kind == VALUE_BYTES):
                listed.append(None)
            else:
                listed.append(found.meta)
            listed.append(key)
            listed.append(raw_value)
    return FOUND


def scan_locked(handle, shard, position, found, start, wants_values, listed):
    """The same under the lock, after what another process changes kept getting in between."""
    room: Any = None
    capacity: u64 = 0
    status: i64
    at: u64
    while True:
        status = copy_next(handle, shard, position, found, start, wants_values, room, capacity)
        if status != NO_ROOM:
            break
        capacity = 2 * data_bytes(found.meta) + 64
        room = new_room(capacity)  # not under the lock
    if status == COPIED:
        at = value_position(found.meta)
        listed.append(found.meta)
        listed.append(exactly(room, 0, found.meta & KEY_LENGTH_MASK))
        listed.append(exactly(room, at, found.meta >> META_LENGTH_SHIFT)
                      if wants_values else b"")
        status = FOUND
    return status


def copy_next(handle, shard, position, found, start, wants_values, room, capacity):
    """Copy the next entry into the room: COPIED; FOUND: it is not to be listed, MISS: there is
    none, or the listing has to start again, NO_ROOM."""
    handle.refuse_reentry(shard)
    status: i64
    need: u64
    try:
        handle.hold(shard, ALL_UNITS)
        handle.count(R_LOCKED_READS)
        status = shard.scan(position, found)
        if status == FOUND and not is_left_out(shard, found, start) and (
            not shard.is_expired(found)
        ):
            need = data_bytes(found.meta) if wants_values else found.meta & KEY_LENGTH_MASK
            status = COPIED
            if need > capacity:
                status = NO_ROOM
            elif need and not shard.slots.read(found.slot, 0, target_of(room), need):
                status = AGAIN
        if status in (AGAIN, CORRUPT):  # damage: rebuild the index
            handle.mend(shard)
            status = MISS
    finally:
        handle.drop(shard)
    return status


def decoded(handle, listed, wants_values, on_unreadable):
    """Decode what was listed: keys, or (key, value) pairs."""
    found: probe_t = new_probe()
    items: list = []
    at: u64
    for at in range(0, len(listed), 3):
        key: Any = listed[at + 1]
        if listed[at] is None:
            items.append((key, listed[at + 2]) if wants_values else key)
            continue
        found.meta = listed[at]
        if type(key) is not str:
            key = key_of(handle, key, found)
        if not wants_values:
            items.append(key)
            continue
        try:
            items.append((key, value_of(handle, listed[at + 2], found, key)))
        except ValueUnreadable as error:
            if on_unreadable is None:
                raise
            on_unreadable(error)
    return items


def list_copied(handle, unit: Any, wall_ns: Any = None) -> tuple:
    """List the live entries of a shard of a snapshot as (key type, key bytes, value type,
    value bytes, deadline in ns or 0, version): (the unit after it, the list). With `wall_ns`, the
    clock at boot, the tombstones too (value bytes: none, deadline: until when it stays), and each
    has as a seventh when it was written: see `Shard.stamp_of`."""
    found: probe_t = new_probe()
    shard: Shard = handle.shard_at(unit)
    slot: u64
    raw_key: Any
    raw_value: Any
    stamped: cython.bint = wall_ns is not None
    wall: u64 = wall_ns if stamped else 0
    buried: cython.bint
    listed: list = []
    for slot in range(1, shard.slots.count + 1):
        found.slot = slot
        found.version = shard.slots.version(slot)
        if found.version == 0:
            continue
        found.meta = shard.slots.meta(slot)
        buried = is_tombstone(found.meta)
        if shard.is_expired(found) and not (stamped and buried):
            continue
        raw_key = shard.raw_key(found)
        raw_value = b"" if buried else shard.raw_value(found)
        if buried:
            found.deadline = shard.kept_until(slot, found.meta)
        if raw_key is None or raw_value is None:
            handle.raise_for(CORRUPT, shard, 0)
        listed.append((
            (found.meta >> META_KEY_TYPE_SHIFT) & KEY_TYPE_MASK, raw_key,
            (found.meta >> META_VALUE_TYPE_SHIFT) & TYPE_MASK, raw_value,
            found.deadline, found.version,
        ) + ((shard.stamp_of(found, wall),) if stamped else ()))
    return shard.unit_after(), listed


def is_left_out(shard, found, start):
    """Tell whether a found key is none that was asked for; confirm it."""
    if start.hash and shard.slot_hash(found.slot, found.meta) < start.hash:
        return True
    return start.type != 0 and not starts_with(shard, found, start)


def starts_with(shard, found, start):
    """Tell whether a found key is of a type and starts with some bytes; confirm it."""
    return (
        (found.meta >> META_KEY_TYPE_SHIFT) & KEY_TYPE_MASK == start.type
        and start.length <= found.meta & KEY_LENGTH_MASK
        and shard.slots.same(found.slot, start.data, start.length)
    )


def shard_rebuilds(shard):
    """Load how often the index was rebuilt."""
    return load(shard.mem, S_REBUILDS)
