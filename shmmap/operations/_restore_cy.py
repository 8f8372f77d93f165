# mypy: ignore-errors
"""Writing entries as the bytes they are: for merging copies, where nothing is encoded or decoded.

Of a map without tombstones `write_raw` compares versions. Of one with them `merge_raw` compares
stamps: what it writes keeps the stamp that it had where it was written first, behind its value. So
an entry wins in every map or in none, by whatever ways it came. What is written here later gets a
later stamp, since the shard's STAMP is raised to what came in.
Source: last-writer-wins registers: Shapiro et al., SSS 2011; hybrid logical clocks: Kulkarni et
al., OPODIS 2014.
"""

from __future__ import annotations

import sys
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
        new_value,
        probe_t,
        room_of,
        store,
        target_of,
        u64,
        value_t,
    )
    from shmmap.memory._hash_cy import hash_key
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        HAS_ORIGIN,
        KEY_LENGTH_MASK,
        META_LENGTH_SHIFT,
        META_VALUE_TYPE_SHIFT,
        ORIGIN_BYTES,
        S_STAMP,
        TYPE_MASK,
        UNIT_SHIFT,
        VALUE_LENGTH_MAX,
        VALUE_PICKLE,
        VALUE_TOMBSTONE,
    )
    from shmmap.shard._slots_cy import is_tombstone, value_position
    from shmmap.shard._status import (
        CORRUPT,
        DELETED,
        FOUND,
        IF_NEWER,
        NOTHING_THERE,
        OLDER,
        TIE,
        WRITTEN,
    )

from shmmap.errors import DumpCorrupted, MapCorrupted, MapUnlinked
from shmmap.memory.stamps import version_at
from shmmap.values._codecs_cy import verify
from shmmap.values._keys_cy import unpack

COMPILED = cython.compiled

def write_raw(
    handle: Any, key_type: Any, raw_key: Any, value_type: Any, raw_value: Any, deadline_ns: Any,
    limit: Any,
) -> bool:
    """Write an encoded entry, unless its key has a live one of version `limit` or newer; tell
    whether it was written.

    Test and write are one step under the shard's lock. The entry gets a new version of this
    map. `deadline_ns`: by the map's clock, 0: none. What no map would have written is
    refused before: bytes from a file must not harm a map. Pickles are checked, not loaded.
    Raises DumpCorrupted, TypeError (a pickle, codec="safe"), MapFull, EntryTooLarge,
    LockTimeout.
    """
    packed: key_t = new_key()
    encoded: value_t = new_value()
    key: Any = _verify(key_type, raw_key, value_type, raw_value)
    if not 0 <= deadline_ns < 1 << 63 or not 0 <= limit < 1 << 63:
        raise DumpCorrupted(f"{deadline_ns} is no deadline, or {limit} no version")
    _refuse_pickle(handle, value_type)
    packed.type = key_type
    packed.length = len(raw_key)
    encoded.type = value_type
    encoded.length = len(raw_value)
    if cython.compiled:
        packed.data = PyBytes_AS_STRING(raw_key)
        encoded.data = PyBytes_AS_STRING(raw_value)
    else:
        packed.data = raw_key
        encoded.data = raw_value
    packed.seed = handle.seed
    packed.hash = hash_key(packed.data, packed.length, packed.type, packed.seed)
    return handle.commit(key, packed, encoded, IF_NEWER, deadline_ns, limit)


def merge_raw(
    handle: Any, key_type: Any, raw_key: Any, value_type: Any, raw_value: Any, deadline_ns: Any,
    stamp_ns: Any, always: Any = False,
) -> int:
    """Write an encoded entry, or a tombstone, unless what its key has was written later; return
    what came of it: WRITTEN, OLDER, DELETED or NOTHING_THERE.

    `stamp_ns`: when it was written, by the wall clock. `deadline_ns`: by the map's clock, 0: none;
    of a tombstone until when it stays. `always`: whatever the key has. Of two with one stamp a
    tombstone wins, then the greater type, the longer value, the greater bytes: in every map the
    same. In a map without tombstones one only deletes. Test and write are one step under the
    shard's lock; what is refused, and raised, is as of `write_raw`.
    """
    found: probe_t = new_probe()
    packed: key_t = new_key()
    status: i64
    done: i64
    beaten: u64 = 0  # the version of what has the same stamp, and less of a value
    room: Any
    theirs: Any
    kind: u64 = value_type if 0 < value_type <= VALUE_TOMBSTONE else 0
    buried: cython.bint = kind == VALUE_TOMBSTONE
    unasked: cython.bint = always
    key: Any = _verify(key_type, raw_key, value_type, raw_value, buried)
    if not 0 <= deadline_ns < 1 << 63 or not 0 <= stamp_ns < 1 << 62 or (
        buried and (raw_value or not deadline_ns)
    ):
        raise DumpCorrupted(f"{deadline_ns} is no deadline, or {stamp_ns} no time of writing")
    _refuse_pickle(handle, value_type)
    deadline: i64 = deadline_ns
    stamp: u64 = stamp_ns
    leaves: cython.bint = not buried or handle.tombstones_ns != 0
    data: Any = bytearray(deadline_ns.to_bytes(8, sys.byteorder) if buried else raw_value)
    length: u64 = len(data)
    data.extend(bytes(ORIGIN_BYTES))  # filled in under the lock
    room = new_room(length + 1)
    packed.type = key_type
    packed.length = len(raw_key)
    if cython.compiled:
        packed.data = PyBytes_AS_STRING(raw_key)
    else:
        packed.data = raw_key
    packed.seed = handle.seed
    packed.hash = hash_key(packed.data, packed.length, packed.type, packed.seed)
    while True:
        handle.come_in()
        try:
            shard = handle.shard_for(packed)
            handle.prepare_deadlines(shard, deadline if leaves else 0)
            handle.refuse_reentry(shard)
            try:
                handle.hold(shard, packed.hash >> UNIT_SHIFT)
                status = FOUND
                done = _compare(handle, shard, packed, kind, length, stamp, room, unasked, beaten,
                                found)
                if done != OLDER and done != TIE and leaves:
                    status = _write(handle, shard, packed, kind, data, length, deadline, stamp,
                                    found)
                elif done == DELETED:
                    shard.erase(packed.hash, found)
                if status != FOUND and buried:  # it deletes all the same
                    shard.lose_tombstone()
                    if handle.find_locked(shard, packed, found) == FOUND:
                        shard.erase(packed.hash, found)
                    status = FOUND
            finally:
                handle.drop(shard)
            if handle.near is not None:
                handle.near.drop(key)
            if status != FOUND:
                handle.raise_for(status, shard, packed.length + length)
            if done == TIE:
                theirs = exactly(room, 0, length)
                if raw_value <= theirs:
                    return OLDER
                beaten = found.version
                continue
            if done == WRITTEN:
                handle.wrote(found)
            else:
                handle.look_now()
            return done
        except MapUnlinked as error:  # it was replaced as we waited for the shard
            if not handle._may_follow(error):
                raise
        finally:
            handle.leave()


def _compare(handle, shard, key, kind, length, stamp_ns, room, always, beaten, found):
    """Find a key and compare what it has, under the lock: see `merge_raw`."""
    status: i64 = handle.find_locked(shard, key, found)
    buried: cython.bint = kind == VALUE_TOMBSTONE
    live: cython.bint = shard.is_live(status, found)
    wins: i64 = WRITTEN
    own: u64
    theirs: u64
    if buried:
        wins = DELETED if live else NOTHING_THERE
    if always or status != FOUND or not (live or is_tombstone(found.meta)):
        return wins
    own = shard.stamp_of(found, handle.wall_ns)
    if own != stamp_ns:
        return OLDER if own > stamp_ns else wins
    if found.version == beaten:
        return wins
    theirs = (found.meta >> META_VALUE_TYPE_SHIFT) & TYPE_MASK  # a tombstone's is the greatest
    if theirs != kind:
        return OLDER if theirs > kind else wins
    if buried:
        return OLDER
    if found.meta >> META_LENGTH_SHIFT != length:
        return OLDER if found.meta >> META_LENGTH_SHIFT > length else wins
    if not shard.slots.read(found.slot, value_position(found.meta), target_of(room), length):
        return OLDER
    return TIE


def _write(handle, shard, key, kind, data, length, deadline, stamp_ns, found):
    """Write a merged entry in place of the one found, under the lock; return a status of `put`."""
    status: i64
    tries: u64
    least: u64 = version_at(stamp_ns, handle.wall_ns)
    flag: u64 = HAS_ORIGIN if handle.tombstones_ns else 0
    if load(shard.mem, S_STAMP) < least:
        store(shard.mem, S_STAMP, least)  # what is written here later has a later stamp
    for tries in range(2):
        _put_word(data, length, shard.upcoming(shard.clock.seen_ns))
        _put_word(data, length + 8, stamp_ns)
        status = shard.put(key.hash, key.type, key.data, key.length, kind | flag,
                           room_of(data), length, deadline, True, found)
        if status != CORRUPT:
            break
        handle.mend(shard)  # as in `write_locked`
        handle.find_locked(shard, key, found)
    return status


def _put_word(data, at, word):
    """Store a word in a bytearray. Takes no memory: a shard is held."""
    if cython.compiled:
        memcpy(room_of(data) + at, cython.address(word), 8)
    else:
        data[at : at + 8] = word.to_bytes(8, sys.byteorder)


def _refuse_pickle(handle, value_type):
    """Refuse a pickle in a map that takes none."""
    if handle.safe and value_type == VALUE_PICKLE:
        raise TypeError(
            f"map {handle.name!r} has a codec that takes no pickles, and this value is one: create "
            'the map with codec="auto" if every process with access is trusted'
        )
    return 0


def _verify(
    key_type: Any, raw_key: Any, value_type: Any, raw_value: Any, buried: Any = False
) -> Any:
    """Return the key; refuse what is not the bytes of a key and a value, or of a key that is
    `buried`. Loads no pickle."""
    if type(raw_key) is not bytes or type(raw_value) is not bytes:
        raise TypeError("a raw entry's key and value must be bytes")
    if len(raw_key) > KEY_LENGTH_MASK or len(raw_value) > VALUE_LENGTH_MAX:
        raise DumpCorrupted(f"no entry has {len(raw_key):,} and {len(raw_value):,} bytes")
    try:
        key: Any = unpack(key_type, raw_key)
        if not buried:
            verify(value_type, raw_value)
        return key
    except MapCorrupted as error:
        raise DumpCorrupted(f"not an entry: {error}") from None
