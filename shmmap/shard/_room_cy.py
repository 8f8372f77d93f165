# mypy: ignore-errors
"""Removing entries: on request, and to make room.

Room comes from expired entries first, then, in a map that evicts, from those
that the policy names. One slot of a shard stays in reserve.

**Crash**: a removal ends the version, then clears the index word; between the
two the entry is gone already, and `repair` clears the word.
**Locks**: the caller holds the shard lock and has set DIRTY.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import (
        Probe,
        fence,
        i64,
        load,
        lowest_bit,
        probe_t,
        store,
        u64,
    )
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        BUCKET_WORDS,
        HAS_DEADLINE,
        KEY_LENGTH_MASK,
        LOW_HALF,
        META_KEY_TYPE_SHIFT,
        META_LENGTH_SHIFT,
        S_ENTRIES,
        S_EVICTED,
        S_EXPIRED,
        S_LIVE_BYTES,
        S_SCAN_HAND,
        S_SEQUENCE,
        SLOT_MASK,
    )
    from shmmap.shard._lookup_cy import ShardReader, data_bytes

COMPILED = cython.compiled


class ShardRoom(ShardReader):
    """How a shard gets rid of entries."""

    def flip(self, hash, slot, found, room):
        """Publish `slot` (0: nothing) in place of what was found, or at index word `room`:
        end the old version, then point."""
        home: u64 = self.index.home(hash, self.shard_bits)
        sequence: u64 = load(self.mem, S_SEQUENCE)
        if room >= 0:
            self.index.mark(home, room)
            found.position = room
            store(self.mem, S_SEQUENCE, sequence + 1)
        else:
            store(self.mem, S_SEQUENCE, sequence + 1)
            self.slots.set_version(found.slot, 0)
        fence()
        self.index.put(found.position, hash & LOW_HALF, slot)
        store(self.mem, S_SEQUENCE, sequence + 2)
        if slot == 0:
            self.index.unmark(home, found.position)

    def release_slots(self, slot, meta):
        """Free the slots of an entry that is no longer reachable, and uncount its bytes."""
        fence()
        if (meta >> META_KEY_TYPE_SHIFT) & HAS_DEADLINE and self.expiry.ready():
            self.expiry.forget(slot)
        self.slots.give_back(slot, self.slots.needed(data_bytes(meta)))
        store(self.mem, S_LIVE_BYTES, load(self.mem, S_LIVE_BYTES)
              - (meta & KEY_LENGTH_MASK) - (meta >> META_LENGTH_SHIFT))

    def remove(self, hash, found):
        """Remove a found entry, within an operation."""
        self.flip(hash, 0, found, -1)
        if self.evicts:
            self.eviction.removed(found.slot)
        self.release_slots(found.slot, found.meta)
        store(self.mem, S_ENTRIES, load(self.mem, S_ENTRIES) - 1)
        found.position = -1

    def remove_slot(self, slot, hash):
        """Remove the live entry at a slot, within an operation; False: the index does not
        name it."""
        if cython.compiled:
            a_probe: Probe
            found: probe_t = cython.address(a_probe)
        else:
            found = Probe()
        found.position = self.index_word_of(slot, hash)
        if found.position < 0:
            return False
        found.slot = slot
        found.meta = self.slots.meta(slot)
        self.remove(hash, found)
        return True

    def index_word_of(self, slot, hash):
        """Find the index word that names a slot whose key has this hash; -1: none does."""
        step: u64
        mask: u64
        position: i64
        bucket: u64 = self.index.home(hash, self.shard_bits)
        for step in range(self.index.buckets):
            mask = self.index.match(bucket, hash & LOW_HALF)
            while mask:
                position = bucket * BUCKET_WORDS + lowest_bit(mask)
                mask &= mask - 1
                if self.index.word(position) & SLOT_MASK == slot:
                    return position
            if not self.index.passed(bucket):
                break
            bucket = self.index.after(bucket)
        return -1

    def has_room(self, need, had):
        """Tell whether `need` slots can be taken where `had` come back, one staying in reserve."""
        free: u64 = self.slots.free_slots()
        return free >= need and free + had > need

    def make_room(self, need, had, keep, now_ns, evict):
        """Remove expired entries, then evict if we may, until there is room; tell whether there is.

        The entry at slot `keep` stays.
        """
        if self.expiry.due(now_ns):
            self.reclaim(1, self.slots.count, now_ns, keep, self.slots.count)
            self.expiry.settle()
        while evict and self.evicts and not self.has_room(need, had):
            if not self.evict_one(keep):
                break
        return self.has_room(need, had)

    def evict_one(self, keep):
        """Evict the entry that the policy names; False: there is none."""
        tries: u64
        slot: u64
        hash: u64
        for tries in range(4 * self.slots.count):
            slot = self.eviction.next_victim(tries)
            if slot and slot != keep and self.slots.version(slot) != 0:
                hash = self.slot_hash(slot, self.slots.meta(slot))
                self.eviction.evicted(slot, hash)
                if self.remove_slot(slot, hash):
                    store(self.mem, S_EVICTED, load(self.mem, S_EVICTED) + 1)
                    return True
        return False

    def reclaim_some(self, now_ns, keep):
        """Reclaim what expired in the next stretch of slots: every writer does a little."""
        first: u64 = load(self.mem, S_SCAN_HAND) + 1
        last: u64
        if first == 0 or first > self.slots.count:
            first = 1
        last = first + 511
        if last >= self.slots.count:
            last = self.slots.count
        self.reclaim(first, last, now_ns, keep, 8)
        if last == self.slots.count:
            self.expiry.settle()
            last = 0
        store(self.mem, S_SCAN_HAND, last)

    def reclaim(self, first, last, now_ns, keep, limit):
        """Remove at most `limit` entries of slots `first` to `last` whose deadline has passed.

        Gives the slot to go on from; 0: none is left.
        """
        done: u64 = 0
        meta: u64
        slot: u64 = self.expiry.find_due(first, now_ns)
        while slot and slot <= last and done < limit:
            meta = self.slots.meta(slot)
            if self.slots.version(slot) == 0 or (
                (meta >> META_KEY_TYPE_SHIFT) & HAS_DEADLINE == 0
            ):
                self.expiry.forget(slot)  # of no entry: only damage leaves that
            elif slot != keep and self.remove_slot(slot, self.slot_hash(slot, meta)):
                done += 1
            slot = self.expiry.find_due(slot + 1, now_ns)
        if done:
            store(self.mem, S_EXPIRED, load(self.mem, S_EXPIRED) + done)
        return slot if slot <= last else 0
