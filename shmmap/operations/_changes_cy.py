# mypy: ignore-errors
"""What a change of an entry is built of: to read it with its version, to write if it still has
that one, to read it and give it a new deadline.

None of it answers from a near cache: what is read here is in the map now, and is a copy that
nobody else has, so that the caller may change it.
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
        new_key,
        new_probe,
        new_room,
        new_value,
        probe_t,
        target_of,
        u64,
        value_t,
    )
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        META_LENGTH_SHIFT,
        R_HITS,
        R_MISSES,
        UNIT_SHIFT,
    )
    from shmmap.operations._decoding_cy import value_of
    from shmmap.shard._slots_cy import value_position
    from shmmap.shard._status import CORRUPT, FOUND, IF_VERSION, KEEP_OTHERS, MISS, NO_ROOM
    from shmmap.values._codecs_cy import encode as encode_value
    from shmmap.values._keys_cy import encode as encode_key

from shmmap.errors import MapUnlinked
from shmmap.operations._reads_cy import MISSING
from shmmap.operations._writes_cy import DEFAULT

COMPILED = cython.compiled

_GONE: Any = object()  # for `pop`, where MISSING says that there is no default
# the ttl of a write that leaves the entry's deadline as it is
KEPT: Any = type("Kept", (), {"__repr__": lambda self: "<as it is>"})()


def check_ttl(handle, ttl):
    """Refuse what is no ttl, before anybody's function is called for it."""
    if ttl is not KEPT:
        handle.deadline_ns(ttl)


def versioned(handle, key):
    """Return (value, version, deadline in ns or 0) of a key; (MISSING, 0, 0): it has no entry."""
    found: probe_t = new_probe()
    packed: key_t = new_key()
    kept: Any = encode_key(key, handle.seed, packed)
    raw: Any = handle.fetch(packed, found, True)
    if handle.near is not None:
        handle.near.saw(key, 0 if raw is MISSING else found.version)
    if raw is MISSING:
        return MISSING, 0, 0
    return value_of(handle, raw, found, key), found.version, found.deadline


def put_if(handle, key, value, version, deadline, ttl, evict):
    """Write a key if it still has this version (0: no live entry); tell whether it was written.

    `ttl`: KEPT leaves the `deadline` of that version, and gives a new entry the map's default.
    """
    packed: key_t = new_key()
    encoded: value_t = new_value()
    mode: i64 = IF_VERSION if evict else IF_VERSION | KEEP_OTHERS
    kept: Any = encode_key(key, handle.seed, packed)
    held: Any = encode_value(value, handle._coder, encoded)
    if ttl is not KEPT:
        deadline = handle.deadline_ns(ttl)
    elif version == 0:
        deadline = handle.deadline_ns(DEFAULT)
    return handle.commit(key, packed, encoded, mode, deadline, version)


def read_and_touch(handle, key, ttl):
    """Return the value of a key, or MISSING, and give its entry a new ttl: one step."""
    found: probe_t = new_probe()
    packed: key_t = new_key()
    kept: Any = encode_key(key, handle.seed, packed)
    deadline: i64 = handle.deadline_ns(ttl)
    capacity: u64 = 512
    room: Any
    status: i64
    if deadline < 0:  # expired at once
        value: Any = handle.pop(key, _GONE)
        return MISSING if value is _GONE else value
    while True:
        handle.come_in()  # for all its steps: one shard is picked for them
        try:
            shard = handle.shard_for(packed)
            while True:
                room = new_room(capacity)  # not under the lock
                status = touch_copied(handle, shard, packed, room, capacity, deadline, found)
                if status != NO_ROOM:
                    break
                capacity = 2 * (found.meta >> META_LENGTH_SHIFT)
            break
        except MapUnlinked as error:  # it was replaced as we waited for the shard
            if not handle._may_follow(error):
                raise
        finally:
            handle.leave()
            if handle.near is not None:
                handle.near.drop(key)
    if status == MISS:
        return MISSING
    return value_of(handle, exactly(room, 0, found.meta >> META_LENGTH_SHIFT), found, key)


def touch_copied(handle, shard, key, room, capacity, deadline, found):
    """Copy a key's value and set its deadline: FOUND; MISS: it has no live entry, NO_ROOM."""
    status: i64
    handle.enter()
    try:
        handle.prepare_deadlines(shard, deadline)
        handle.refuse_reentry(shard)
        try:
            handle.hold(shard, key.hash >> UNIT_SHIFT)
            status = handle.find_locked(shard, key, found)
            if not shard.is_live(status, found):
                status = MISS
            elif found.meta >> META_LENGTH_SHIFT > capacity:
                status = NO_ROOM
            elif not shard.slots.read(found.slot, value_position(found.meta), target_of(room),
                                      found.meta >> META_LENGTH_SHIFT):
                handle.raise_for(CORRUPT, shard, 0)
            else:
                shard.set_deadline(deadline, found)
                if shard.evicts:
                    shard.eviction.hit(found.slot)
        finally:
            handle.drop(shard)
        if status == FOUND:
            handle.wrote(found)
        else:
            handle.look_now()
        if status != NO_ROOM:
            handle.count(R_HITS if status == FOUND else R_MISSES)
        return status
    finally:
        handle.leave()
