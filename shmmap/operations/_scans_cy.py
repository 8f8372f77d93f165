# mypy: ignore-errors
"""All entries: counting, listing, clearing, sweeping, and copying whole shards.
"""

from __future__ import annotations

import threading
from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import (
        Key,
        Probe,
        copy_out,
        exactly,
        i64,
        key_t,
        load,
        new_room,
        pause,
        probe_t,
        room_of,
        store,
        target_of,
        u64,
    )
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        KEY_LENGTH_MASK,
        KEY_TYPE_MASK,
        META_KEY_TYPE_SHIFT,
        META_LENGTH_SHIFT,
        META_VALUE_TYPE_SHIFT,
        R_LOCKED_READS,
        R_RETRIES,
        R_TAKEOVERS,
        S_DIRTY,
        S_OWNER,
        S_REBUILDS,
        S_TRACKING,
        TYPE_MASK,
    )
    from shmmap.operations._restore_cy import RawWrites
    from shmmap.shard._lookup_cy import data_bytes, value_position
    from shmmap.shard._shard_cy import Shard
    from shmmap.shard._status import (
        AGAIN,
        COPIED,
        CORRUPT,
        FOUND,
        MISS,
        NO_ROOM,
        READ_TRIES,
        TAKEN_OVER,
        TIMED_OUT,
    )
    from shmmap.values._keys_cy import encode as encode_key

COMPILED = cython.compiled


class Scans(RawWrites):
    """The operations of a map that go over its shards."""

    def __len__(self) -> int:
        """Count the live entries: O(shards), and a scan of the deadlines where some passed."""
        total: u64 = 0
        shard: Shard
        self.enter()
        try:
            now_ns: i64 = self.clock.now()
            for shard in self.shards:
                if load(shard.mem, S_DIRTY):
                    self.heal(shard)
                total += shard.count_live(now_ns)
            if self.near is not None:
                self.near.reseal()
            return total
        finally:
            self.leave()

    def __bool__(self) -> bool:
        """Tell whether there is a live entry: O(shards), and, of a shard where a deadline has
        passed, as far as to the first live entry."""
        shard: Shard
        found: cython.bint = False
        if type(self).__len__ is not Scans.__len__:  # a subclass counts in its own way
            return len(self) != 0
        self.enter()
        try:
            now_ns: i64 = self.clock.now()
            for shard in self.shards:
                if load(shard.mem, S_DIRTY):
                    self.heal(shard)
                if shard.has_live(now_ns):
                    found = True
                    break
            if self.near is not None:
                self.near.reseal()
            return found
        finally:
            self.leave()

    def heal(self, shard):
        """Repair a shard whose writer has died in mid-change: counts are read without the lock.

        A writer that lives, stopped or not, is left alone, and soon: see `count_live`. Nor is
        anything done in a signal handler or finalizer of an operation on this very shard.
        """
        status: i64
        spin: u64
        for spin in range(100):  # most changes take a microsecond
            if load(shard.mem, S_DIRTY) == 0:
                return 0
            pause()
        owner: u64 = load(shard.mem, S_OWNER)
        if owner and not shard.lock.is_dead(owner, self.token()):
            return 0
        if not cython.compiled and (threading.get_ident(), shard.number) in self.attachment.held:
            return 0
        try:
            status = self.try_hold(shard, 50000000)  # who has it now repairs it
            if status == TAKEN_OVER:
                self.count(R_TAKEOVERS)
            if status != TIMED_OUT and load(shard.mem, S_DIRTY):
                self.mend(shard)
        finally:
            self.drop(shard)
        return 0

    def clear(self) -> None:
        """Remove every entry, shard by shard: not one step for the whole map."""
        shard: Shard
        self.enter()
        try:
            for shard in self.shards:
                clear_shard(self, shard)
        finally:
            self.leave()
            if self.near is not None:
                self.near.clear()

    def _scan(self, number: Any, wants_values: Any, prefix: Any = None) -> Any:
        """List the live entries of a shard, as keys or as (key, value) pairs; with `prefix`, a str
        or bytes, only those whose key is of that type and starts so.

        Weakly consistent: an entry that is there throughout is listed exactly once.
        """
        self.enter()
        try:
            listed: Any = self.scan_shard(number, wants_values, prefix)
            if self.near is not None:
                self.near.reseal()
        finally:
            self.leave()
        return self.decoded(listed, wants_values)

    def _scan_raw(self, number: Any) -> Any:
        """List the live entries of a shard as (key, value type, value bytes): see `_decode`."""
        self.enter()
        try:
            listed: Any = self.scan_shard(number, True, None)
            if self.near is not None:
                self.near.reseal()
        finally:
            self.leave()
        return [
            (key, (listed[3 * at] >> META_VALUE_TYPE_SHIFT) & TYPE_MASK, listed[3 * at + 2])
            for at, key in enumerate(self.decoded(listed, False))
        ]

    def scan_shard(self, number, wants_values, prefix):
        """List a shard without the lock, as meta word, key, value, and so on; an index rebuilt
        meanwhile is listed again."""
        if cython.compiled:
            a_probe: Probe
            a_key: Key
            found: probe_t = cython.address(a_probe)
            start: key_t = cython.address(a_key)
        else:
            found, start = Probe(), Key()
        start.type = 0  # every key
        kept: Any = None
        if prefix is not None:
            kept = encode_key(prefix, self.seed, start)  # one too long for a key starts none
        shard: Shard = self.shards[number]
        listed: list = []
        position: u64 = 0
        rebuilds: u64 = self.whole_index(shard)
        tries: u64 = 0
        status: i64
        while True:
            status = self.scan_one(shard, position, found, start, wants_values, listed)
            if status == FOUND:
                position = found.position + 1
                tries = 0
            elif status == AGAIN and tries < READ_TRIES:
                position = found.position
                tries += 1
                self.count(R_RETRIES)
            elif status < 0:
                status = self.scan_locked(shard, position, found, start, wants_values, listed)
                if status == FOUND:
                    position = found.position + 1
                    tries = 0
            if status == MISS:
                if shard_rebuilds(shard) == rebuilds:
                    return listed
                listed = []
                position = 0
                rebuilds = self.whole_index(shard)

    def whole_index(self, shard):
        """Load REBUILDS, which is even while the index is whole; where it is being rebuilt, or
        its rebuilder died, wait for the lock first: a listing of half an index would not show
        what it lacks."""
        rebuilds: u64 = shard_rebuilds(shard)
        while rebuilds & 1:
            self.refuse_reentry(shard)
            try:
                self.hold(shard)
                if shard_rebuilds(shard) & 1:  # nobody is at it, since we hold the lock: damage
                    self.mend(shard)
            finally:
                self.drop(shard)
            rebuilds = shard_rebuilds(shard)
        return rebuilds

    def scan_one(self, shard, position, found, start, wants_values, listed):
        """Append the next live entry's raw parts to `listed`; FOUND, MISS or AGAIN."""
        status: i64 = shard.scan(position, found)
        if status != FOUND:
            return status
        if start.type and not starts_with(shard, found, start):
            return FOUND if shard.confirm(found) else AGAIN
        raw_key: Any = self.raw_key(shard, found)
        raw_value: Any = self.raw_value(shard, found) if wants_values else b""
        expired: cython.bint = shard.is_expired(found)
        if not shard.confirm(found) or raw_key is None or raw_value is None:
            return AGAIN
        if not expired:
            listed.append(found.meta)  # one by one: a tuple could start a garbage collection,
            listed.append(raw_key)  # and somebody's finalizers, under the lock
            listed.append(raw_value)
        return FOUND

    def scan_locked(self, shard, position, found, start, wants_values, listed):
        """The same under the lock, after what another process changes kept getting in between."""
        room: Any = None
        capacity: u64 = 0
        status: i64
        at: u64
        while True:
            status = self.copy_next(shard, position, found, start, wants_values, room, capacity)
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

    def copy_next(self, shard, position, found, start, wants_values, room, capacity):
        """Copy the next entry into the room: COPIED; FOUND: it is not to be listed, MISS: there is
        none, or the listing has to start again, NO_ROOM."""
        self.refuse_reentry(shard)
        status: i64
        need: u64
        try:
            self.hold(shard)
            self.count(R_LOCKED_READS)
            status = shard.scan(position, found)
            if status == FOUND and not (start.type and not starts_with(shard, found, start)) and (
                not shard.is_expired(found)
            ):
                need = data_bytes(found.meta) if wants_values else found.meta & KEY_LENGTH_MASK
                status = COPIED
                if need > capacity:
                    status = NO_ROOM
                elif need and not shard.slots.read(found.slot, 0, target_of(room), need):
                    status = AGAIN
            if status in (AGAIN, CORRUPT):  # damage: rebuild the index
                self.mend(shard)
                status = MISS
        finally:
            self.drop(shard)
        return status

    def decoded(self, listed, wants_values):
        """Decode what was listed: keys, or (key, value) pairs."""
        if cython.compiled:
            a_probe: Probe
            found: probe_t = cython.address(a_probe)
        else:
            found = Probe()
        items: list = []
        at: u64
        for at in range(0, len(listed), 3):
            found.meta = listed[at]
            key: Any = self.key_of(listed[at + 1], found)
            if wants_values:
                items.append((key, self.value_of(listed[at + 2], found, key)))
            else:
                items.append(key)
        return items

    def _sweep_part(self, number: Any, first: Any, idle_before_ns: Any, limit: Any) -> Any:
        """Sweep some slots of a shard under one hold of its lock; give where to go on, 0: done.

        Removes at most `limit` expired entries (`idle_before_ns` 0), or looks at `limit` slots
        for idle ones. A dead owner's lock is healed on the way.
        """
        shard: Shard = self.shards[number]
        from_slot: u64 = first
        before: u64 = idle_before_ns
        most: u64 = limit
        following: u64 = 0
        self.enter()
        try:
            tracker: u64 = load(shard.mem, S_TRACKING)  # judged before anything is held
            gone: cython.bint = tracker != 0 and self.attachment.worker.is_dead(tracker)
            self.refuse_reentry(shard)
            try:
                self.hold(shard)
                if gone and load(shard.mem, S_TRACKING) == tracker:
                    store(shard.mem, S_TRACKING, 0)
                if before:
                    following = shard.sweep_idle(from_slot, before, most)
                elif shard.expiry.due(self.clock.now()):
                    following = shard.sweep_expired(from_slot, self.clock.now(), most)
            finally:
                self.drop(shard)
        finally:
            self.leave()
        return following

    def _repair_shard(self, number: Any) -> None:
        """Rebuild what is derived in a shard from its slots, under its lock."""
        shard: Shard = self.shards[number]
        self.enter()
        try:
            self.attachment.restore_deadlines(number)
            self.refuse_reentry(shard)
            try:
                self.hold(shard)
                self.mend(shard)
            finally:
                self.drop(shard)
        finally:
            self.leave()

    def _end_entries(self, number: Any, entries: Any) -> None:
        """End the entries at these (slot, version), if they still are there, and repair."""
        shard: Shard = self.shards[number]
        slot: u64
        version: u64
        self.enter()
        try:
            self.refuse_reentry(shard)
            try:
                self.hold(shard)
                store(shard.mem, S_DIRTY, 1)
                for slot, version in entries:
                    if shard.slots.version(slot) == version:
                        shard.slots.set_version(slot, 0)
                self.mend(shard)
            finally:
                self.drop(shard)
        finally:
            self.leave()

    def _copy_shard(self, number: Any, length: Any) -> Any:
        """Copy a shard's first `length` bytes under its lock."""
        shard: Shard = self.shards[number]
        room: Any = bytearray(length)
        self.enter()
        try:
            self.refuse_reentry(shard)
            try:
                self.hold(shard)
                copy_out(shard.mem, 0, room_of(room), 0, length)
            finally:
                self.drop(shard)
        finally:
            self.leave()
        return room


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


def clear_shard(core, shard):
    """Clear one shard under its lock."""
    core.refuse_reentry(shard)
    try:
        core.hold(shard)
        shard.clear()
    finally:
        core.drop(shard)
