"""All entries: counting, listing, clearing, sweeping, and copying whole shards.
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap._keys_cy import encode as encode_key
    from shmmap._raw_cy import RawWrites
    from shmmap._shard_cy import Shard
    from shmmap._words import (
        Key,
        Probe,
        copy_out,
        i64,
        key_t,
        load,
        probe_t,
        room_of,
        store,
        u64,
    )
    from shmmap.layout import (  # type: ignore[attr-defined]
        BUCKET_WORDS,
        KEY_LENGTH_MASK,
        KEY_TYPE_MASK,
        LOW_HALF,
        META_KEY_TYPE_SHIFT,
        META_VALUE_TYPE_SHIFT,
        R_DELETES,
        R_LOCKED_READS,
        R_RETRIES,
        S_DIRTY,
        S_ENTRIES,
        S_POP_HAND,
        S_REBUILDS,
        S_TRACKING,
        TAG_SHIFT,
        TYPE_MASK,
        VALUE_PICKLE,
    )

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
                total += live_entries(shard, now_ns)
            if self.near is not None:
                self.near.reseal()
            return total
        finally:
            self.leave()

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

    def popitem(self) -> Any:
        """Remove some entry and give it as (key, value), in one step. KeyError: the map is empty.

        Which one is arbitrary. Locks one shard at a time.
        """
        if cython.compiled:
            a_probe: Probe
            found: probe_t = cython.address(a_probe)
        else:
            found = Probe()
        raw: Any = None
        raw_key: Any = None
        shard: Shard
        self.enter()
        turn: u64
        try:
            first: u64 = self.token() >> 22
            for turn in range(self.mask + 1):
                shard = self.shards[(first + turn) & self.mask]
                if not has_entries(shard):
                    continue
                self.refuse_reentry(shard)
                try:
                    self.hold(shard)
                    if self.find_any(shard, found):
                        raw_key = self.raw_key(shard, found)
                        raw = self.raw_value(shard, found)
                        if raw_key is None or raw is None:
                            self.raise_for(-4, shard, 0)
                        if self.safe and (
                            (found.meta >> META_VALUE_TYPE_SHIFT) & TYPE_MASK == VALUE_PICKLE
                        ):
                            raw = self.value_of(raw, found, self.key_of(raw_key, found))  # refuses
                        erase_slot(shard, found)
                finally:
                    self.drop(shard)
                if raw_key is not None:
                    self.count(R_DELETES)
                    key: Any = self.key_of(raw_key, found)
                    if self.near is not None:
                        self.near.drop(key)
                    return key, self.value_of(raw, found, key)
        finally:
            self.leave()
        if self.near is not None:
            self.near.clear()
        raise KeyError(f"popitem: map {self.name!r} is empty")

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
                if status != 1:
                    break
                if not shard.is_expired(found):
                    if found.word >> TAG_SHIFT != slot_hash(shard, found) & LOW_HALF:
                        status = -4  # to take it out by this hash would harm others
                        break
                    store(shard.mem, S_POP_HAND, found.position)
                    return True
                position = found.position + 1
            if status < 0:
                self.mend(shard)
            position = 0
        return False

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
            if status == 1:
                position = found.position + 1
                tries = 0
            elif status == -1 and tries < 16:
                position = found.position
                tries += 1
                self.count(R_RETRIES)
            elif status < 0:
                status = self.scan_locked(shard, position, found, start, wants_values, listed)
                if status == 1:
                    position = found.position + 1
                    tries = 0
            if status == 0:
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
        if status != 1:
            return status
        if start.type and not starts_with(shard, found, start):
            return 1 if shard.confirm(found) else -1
        raw_key: Any = self.raw_key(shard, found)
        raw_value: Any = self.raw_value(shard, found) if wants_values else b""
        expired: cython.bint = shard.is_expired(found)
        if not shard.confirm(found) or raw_key is None or raw_value is None:
            return -1
        if not expired:
            listed.append(found.meta)  # one by one: a tuple could start a garbage collection,
            listed.append(raw_key)  # and somebody's finalizers, under the lock
            listed.append(raw_value)
        return 1

    def scan_locked(self, shard, position, found, start, wants_values, listed):
        """The same under the lock, after what another process changes kept getting in between."""
        self.refuse_reentry(shard)
        status: i64
        try:
            self.hold(shard)
            self.count(R_LOCKED_READS)
            status = self.scan_one(shard, position, found, start, wants_values, listed)
            if status < 0:  # damage: rebuild the index, and the listing starts again
                self.mend(shard)
                status = 0
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


def has_entries(shard):
    """Tell whether a shard may hold entries, expired ones included; under a change the count
    may be behind."""
    return load(shard.mem, S_ENTRIES) != 0 or load(shard.mem, S_DIRTY) != 0


def erase_slot(shard, found):
    """Erase a found entry whose hash is not at hand."""
    shard.erase(slot_hash(shard, found), found)


def slot_hash(shard, found):
    """Hash the key of a found entry."""
    return shard.slot_hash(found.slot, found.meta)


def shard_rebuilds(shard):
    """Load how often the index was rebuilt."""
    return load(shard.mem, S_REBUILDS)


def live_entries(shard, now_ns):
    """Count a shard's entries whose deadline has not passed."""
    entries: u64 = load(shard.mem, S_ENTRIES)
    due: u64 = shard.expiry.count_due(now_ns)
    if entries > shard.slots.count:  # damaged: len() must stay a length all the same
        entries = shard.slots.count
    return entries - due if entries > due else 0


def clear_shard(core, shard):
    """Clear one shard under its lock."""
    core.refuse_reentry(shard)
    try:
        core.hold(shard)
        shard.clear()
    finally:
        core.drop(shard)
