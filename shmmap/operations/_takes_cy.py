# mypy: ignore-errors
"""Removing keys: on request, with their values or without. And `m[key] = value`, since that and
`del m[key]` are one slot of a type: a class that had but one of them would hand on the other.

What gives a value decodes it first, with nothing held, and removes the entry only if it still
has the version that was read: so what this process cannot decode stays for one that can. Where
others change the entry again and again, one whose decoding runs nobody's code is taken at once.
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import (
        Key,
        Probe,
        clock_ns,
        exactly,
        i64,
        key_t,
        load,
        new_room,
        probe_t,
        store,
        target_of,
        u64,
    )
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
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
        VALUE_PICKLE,
    )
    from shmmap.operations._writes_cy import Writes
    from shmmap.shard._lookup_cy import data_bytes, value_position
    from shmmap.shard._shard_cy import Shard
    from shmmap.shard._status import (
        AGAIN,
        ALWAYS,
        CORRUPT,
        FOUND,
        MISS,
        NO_ROOM,
        READ_TRIES,
        TAKEN,
        UNSURE,
    )
    from shmmap.values._keys_cy import encode as encode_key

from shmmap.errors import LockTimeout
from shmmap.operations._reads_cy import MISSING
from shmmap.operations._writes_cy import DEFAULT

COMPILED = cython.compiled
ROUNDS = 8  # in which others may change what we have decoded, before it is taken at once


class Takes(Writes):
    """The removing operations of a map."""

    if not cython.compiled:
        pop_turn = 0

    def take(self, key):
        """Remove `key` in one step; tell whether it had a live entry."""
        if cython.compiled:
            a_probe: Probe
            a_key: Key
            found: probe_t = cython.address(a_probe)
            packed: key_t = cython.address(a_key)
        else:
            found, packed = Probe(), Key()
        kept: Any = encode_key(key, self.seed, packed)
        shard = self.shard_of(packed.hash)
        live: cython.bint = False
        status: i64
        self.enter()
        try:
            self.refuse_reentry(shard)
            try:
                self.hold(shard)
                status = self.find_locked(shard, packed, found)
                if status == FOUND:
                    live = not shard.is_expired(found)
                    shard.erase(packed.hash, found)
            finally:
                self.drop(shard)
            if self.near is not None:
                self.near.drop(key)
            if live:
                self.count(R_DELETES)
            return live
        finally:
            self.leave()

    def delete(self, key: Any) -> bool:
        """Remove `key`; tell whether it had a live entry. Locks one shard."""
        return self.take(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Write `key`; the entry's ttl starts anew with the map's default."""
        self.write(key, value, ALWAYS, DEFAULT, 0)

    def __delitem__(self, key: Any) -> None:
        """Remove `key`. Raises KeyError if there is no live entry."""
        if not self.take(key):
            raise KeyError(key)

    def delete_many(self, keys: Any) -> int:
        """Remove every key given; count those that had a live entry."""
        gone: u64 = 0
        for key in keys:
            if self.take(key):
                gone += 1
        return gone

    def pop(self, key: Any, default: Any = MISSING) -> Any:
        """Remove `key` and give its value, in one step; default, or KeyError, if there is none.

        A value that cannot be decoded here stays, and its error is raised. Raises LockTimeout too
        if others have changed the entry all the time, for `lock_timeout` seconds.
        """
        if cython.compiled:
            a_probe: Probe
            a_key: Key
            found: probe_t = cython.address(a_probe)
            packed: key_t = cython.address(a_key)
        else:
            found, packed = Probe(), Key()
        kept: Any = encode_key(key, self.seed, packed)
        value: Any = MISSING
        try:
            value = self.take_value(key, packed, found)
        finally:
            if self.near is not None:
                self.near.drop(key)
        if value is not MISSING:
            return value
        if default is MISSING:
            raise KeyError(key)
        return default

    def take_value(self, key, packed, found):
        """Remove a key and give its value, or MISSING."""
        shard = self.shard_of(packed.hash)
        raw: Any
        value: Any
        status: i64
        until_ns: i64 = 0
        tries: u64 = 0
        me: u64
        while True:
            raw = self.peek(shard, packed, found)
            if raw is MISSING:
                return MISSING
            if tries >= ROUNDS and is_sure(found.meta):
                raw = self.take_at_once(shard, packed, found)
                if raw is MISSING:
                    return MISSING
                if raw is not None:
                    return self.value_of(raw, found, key)
                continue
            me = self.token()
            value = self.value_of(raw, found, key)  # what this raises leaves the entry where it is
            if self.token() != me and not self.closed:  # a forked child: the parent removes it
                return value
            status = self.take_version(shard, packed, found.version, found)
            if status == FOUND:
                return value
            if status == MISS:
                return MISSING
            tries += 1
            if tries >= ROUNDS:
                if until_ns == 0:
                    until_ns = clock_ns(1) + self.lock_timeout_ns
                self.give_up_at(until_ns, shard)

    def peek(self, shard, key, found):
        """Read a key without counting it: the raw value, or MISSING."""
        raw: Any
        attempt: u64
        self.enter()
        try:
            for attempt in range(READ_TRIES):
                raw = self.try_fetch(shard, key, found, True)
                if raw is not None:
                    return raw
            return self.fetch_locked(shard, key, found, True)
        finally:
            self.leave()

    def take_version(self, shard, key, version, found):
        """Remove a key if it has this version: FOUND; MISS: it has none, AGAIN: another one."""
        status: i64
        self.enter()
        try:
            self.refuse_reentry(shard)
            try:
                self.hold(shard)
                status = self.find_locked(shard, key, found)
                if not self.is_live(shard, status, found):
                    status = MISS
                elif found.version != version:
                    status = AGAIN
                else:
                    shard.erase(key.hash, found)
            finally:
                self.drop(shard)
            if status == FOUND:
                self.count(R_DELETES)
            return status
        finally:
            self.leave()

    def take_at_once(self, shard, key, found):
        """Remove a key whatever version it has, and give its bytes; MISSING: it has no live entry,
        None: its value is not of a kind that is sure to be decoded."""
        capacity: u64 = 2 * (found.meta >> META_LENGTH_SHIFT) + 64
        room: Any
        status: i64
        while True:
            room = new_room(capacity)
            status = self.take_copied(shard, key, room, capacity, found)
            if status == FOUND:
                return exactly(room, 0, found.meta >> META_LENGTH_SHIFT)
            if status != NO_ROOM:
                return MISSING if status == MISS else None
            capacity = 2 * (found.meta >> META_LENGTH_SHIFT)

    def take_copied(self, shard, key, room, capacity, found):
        """Copy a key's value and remove it: FOUND; MISS: it has no live entry, UNSURE, NO_ROOM."""
        status: i64
        self.enter()
        try:
            self.refuse_reentry(shard)
            try:
                self.hold(shard)
                status = self.find_locked(shard, key, found)
                if not self.is_live(shard, status, found):
                    status = MISS
                elif not is_sure(found.meta):
                    status = UNSURE
                elif found.meta >> META_LENGTH_SHIFT > capacity:
                    status = NO_ROOM
                elif not shard.slots.read(found.slot, value_position(found.meta), target_of(room),
                                          found.meta >> META_LENGTH_SHIFT):
                    self.raise_for(CORRUPT, shard, 0)
                else:
                    shard.erase(key.hash, found)
            finally:
                self.drop(shard)
            if status == FOUND:
                self.count(R_DELETES)
            return status
        finally:
            self.leave()

    def give_up_at(self, until_ns, shard):
        """Raise once the time is over in which others have changed what we decoded."""
        if clock_ns(1) >= until_ns:
            raise LockTimeout(
                f"map {self.name!r}, shard {shard.number}: other workers have written the entry "
                f"again each time before it could be removed, for {self.lock_timeout_ns / 1e9:g} "
                "s; nothing was removed. Have fewer of them write it, or raise lock_timeout="
            )
        return 0

    # -- any entry -----------------------------------------------------------------------

    def popitem(self) -> Any:
        """Remove some entry and give it as (key, value), in one step. KeyError: the map is empty.

        Which one is arbitrary. Locks one shard at a time. What cannot be decoded here stays, and
        its error is raised; the next call looks at another entry. O(1) in a map that is well
        filled; in one that is nearly empty it goes over the index of a shard: O(size / shards).
        """
        if cython.compiled:
            a_probe: Probe
            found: probe_t = cython.address(a_probe)
        else:
            found = Probe()
        item: Any
        shard: Shard
        turn: u64
        first: u64 = 0
        self.enter()
        try:
            first = (self.token() >> 22) + self.pop_turn
        finally:
            self.leave()
        for turn in range(self.mask + 1):
            shard = self.shards[(first + turn) & self.mask]
            try:
                item = self.take_any(shard, found)
            except BaseException:
                self.pop_turn += 1  # the next call begins with another shard
                raise
            if item is not None:
                return item
        if self.near is not None:
            self.near.clear()
        raise KeyError(f"popitem: map {self.name!r} is empty")

    def take_any(self, shard, found):
        """Remove some entry of a shard and give it as (key, value); None: there is none."""
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
            status = self.offer(shard, room, capacity, tries >= ROUNDS, found)
            if status == MISS:
                return None
            if status == NO_ROOM:
                capacity = 2 * data_bytes(found.meta)
                room = None
                continue
            at = value_position(found.meta)
            key = self.key_of(exactly(room, 0, found.meta & KEY_LENGTH_MASK), found)
            me = self.token()
            try:
                item = (key, self.value_of(
                    exactly(room, at, found.meta >> META_LENGTH_SHIFT), found, key
                ))
                if status == TAKEN or (self.token() != me and not self.closed) or (
                    self.take_offered(shard, found)
                ):
                    return item
            finally:
                if self.near is not None:
                    self.near.drop(key)
            room = None  # it may be part of what was decoded
            tries += 1
            if tries >= ROUNDS:
                if until_ns == 0:
                    until_ns = clock_ns(1) + self.lock_timeout_ns
                self.give_up_at(until_ns, shard)

    def offer(self, shard, room, capacity, at_once, found):
        """Copy some live entry's key and value into the room: FOUND, and where it was removed
        `at_once`, TAKEN; MISS: there is none, NO_ROOM."""
        status: i64 = MISS
        need: u64
        self.enter()
        try:
            if not has_entries(shard):
                return MISS
            self.refuse_reentry(shard)
            try:
                self.hold(shard)
                if self.find_any(shard, found):
                    need = data_bytes(found.meta)
                    status = NO_ROOM if need > capacity else FOUND
                    if status == FOUND:
                        store(shard.mem, S_POP_HAND, found.position + 1)  # the next is offered next
                        if not shard.slots.read(found.slot, 0, target_of(room), need):
                            self.raise_for(CORRUPT, shard, 0)
                        if at_once and is_sure(found.meta):
                            shard.erase(slot_hash(shard, found), found)
                            status = TAKEN
            finally:
                self.drop(shard)
            if status == TAKEN:
                self.count(R_DELETES)
            return status
        finally:
            self.leave()

    def take_offered(self, shard, found):
        """Remove what was offered, if it still is there and has not changed."""
        taken: cython.bint = False
        self.enter()
        try:
            self.refuse_reentry(shard)
            try:
                self.hold(shard)
                taken = shard.confirm(found) and not shard.is_expired(found)
                if taken:
                    shard.erase(slot_hash(shard, found), found)
            finally:
                self.drop(shard)
            if taken:
                self.count(R_DELETES)
            return taken
        finally:
            self.leave()

    def find_any(self, shard, found):
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
                self.mend(shard)
            position = 0
        return False


def is_sure(meta):
    """Tell whether an entry's value is decoded without anybody's code, which could fail."""
    kind: u64 = (meta >> META_VALUE_TYPE_SHIFT) & TYPE_MASK
    return kind != VALUE_PICKLE and kind != VALUE_ARRAY


def has_entries(shard):
    """Tell whether a shard may hold entries, expired ones included; under a change the count
    may be behind."""
    return load(shard.mem, S_ENTRIES) != 0 or load(shard.mem, S_DIRTY) != 0


def slot_hash(shard, found):
    """Hash the key of a found entry."""
    return shard.slot_hash(found.slot, found.meta)
