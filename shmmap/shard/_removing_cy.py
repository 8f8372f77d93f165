# mypy: ignore-errors
"""Removing entries of a shard: to make room, since they have expired, or are tombstones of old.

A tombstone is what a delete leaves of a key, so that an older copy does not bring it back: an entry
of type VALUE_TOMBSTONE whose deadline is BURIED, a time that is long past. To readers, listings and
`len` it is one that has expired; only what goes by its type knows better:

- its value is one word: until when it is to stay
- the scans for what is due do not meet it; `unbury` removes it when its time is over
- where there is no room it gives way: in a map that evicts, as an entry that nobody reads; else
  before a write fails. That is counted in TOMBSTONES_LOST

**Invariants**
 B1  an entry has the deadline BURIED if and only if it is a tombstone
 B2  TOMBSTONES counts them
**Crash**: as of any write, or removal; TOMBSTONES is derived.
**Locks**: the shard lock.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import (
        fence,
        i64,
        load,
        lowest_bit,
        new_probe,
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
        S_TOMBSTONES,
        S_TOMBSTONES_LOST,
        SLOT_MASK,
    )
    from shmmap.shard._lookup_cy import ShardLookup
    from shmmap.shard._slots_cy import data_bytes, is_tombstone, value_position

COMPILED = cython.compiled


class ShardRemoving(ShardLookup):
    """A shard, and how entries leave it. All of it is within an operation."""

    def flip(self, hash, slot, found, room):
        """Publish `slot` (0: nothing) in place of what was found, or at index word `room`:
        end the old version, then point. Step 4 of a write, and of a removal."""
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

    def remove(self, hash, found):
        """Remove a found entry, within an operation."""
        self.flip(hash, 0, found, -1)
        if self.evicts:
            self.eviction.removed(found.slot)
        self.release_slots(found.slot, found.meta)
        store(self.mem, S_ENTRIES, load(self.mem, S_ENTRIES) - 1)
        found.position = -1

    def release_slots(self, slot, meta):
        """Free the slots of an entry that is no longer reachable, and uncount its bytes."""
        fence()
        if (meta >> META_KEY_TYPE_SHIFT) & HAS_DEADLINE and self.expiry.ready():
            self.expiry.forget(slot)
            if is_tombstone(meta) and load(self.mem, S_TOMBSTONES):
                store(self.mem, S_TOMBSTONES, load(self.mem, S_TOMBSTONES) - 1)
        self.slots.give_back(slot, self.slots.needed(data_bytes(meta)))
        store(self.mem, S_LIVE_BYTES, load(self.mem, S_LIVE_BYTES)
              - (meta & KEY_LENGTH_MASK) - (meta >> META_LENGTH_SHIFT))

    def remove_slot(self, slot, hash):
        """Remove the live entry at a slot, within an operation; False: the index does not
        name it."""
        found: probe_t = new_probe()
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

    # -- room ----------------------------------------------------------------------------------

    def has_room(self, need, had):
        """Tell whether `need` slots can be taken where `had` come back, one staying in reserve."""
        free: u64 = self.slots.free_slots()
        return free >= need and free + had > need

    def make_room(self, need, had, keep, now_ns, evict):
        """Remove expired entries, and tombstones whose time is over, then evict if we may, else
        take tombstones that should have stayed, until there is room; tell whether there is.

        The entry at slot `keep` stays.
        """
        if self.expiry.due(now_ns):
            self.reclaim(1, self.slots.count, now_ns, keep, self.slots.count)
            self.expiry.settle()
        if load(self.mem, S_TOMBSTONES) and not self.has_room(need, had):
            self.unbury_some(now_ns, keep)
            while not (evict and self.evicts) and not self.has_room(need, had):
                if not self.sacrifice(now_ns, keep):
                    break
        while evict and self.evicts and not self.has_room(need, had):
            if not self.evict_one(keep):
                break
        return self.has_room(need, had)

    def evict_one(self, keep):
        """Evict the entry that the policy names; False: there is none."""
        tries: u64
        slot: u64
        meta: u64
        hash: u64
        for tries in range(4 * self.slots.count):
            slot = self.eviction.next_victim(tries)
            if slot and slot != keep and self.slots.version(slot) != 0:
                meta = self.slots.meta(slot)
                hash = self.slot_hash(slot, meta)
                self.eviction.evicted(slot, hash)
                if self.remove_slot(slot, hash):
                    if is_tombstone(meta):
                        self.lose_tombstone()
                    else:
                        store(self.mem, S_EVICTED, load(self.mem, S_EVICTED) + 1)
                        if cython.compiled:
                            probe_evict(self.mem, hash, meta)
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

        Returns the slot to go on from; 0: none is left.
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

    # -- tombstones ----------------------------------------------------------------------------

    def kept_until(self, slot, meta):
        """Return until when a tombstone is to stay."""
        return self.slots.word(slot, value_position(meta))

    def lose_tombstone(self):
        """Count a tombstone that is not there though its time is not over."""
        store(self.mem, S_TOMBSTONES_LOST, load(self.mem, S_TOMBSTONES_LOST) + 1)

    def unbury(self, first, now_ns, keep, limit):
        """Remove the tombstones whose time is over, from slot `first` on, looking at `limit` at
        most; within an operation.

        Returns the slot to go on from; 0: none is left.
        """
        looks: u64 = 0
        meta: u64
        slot: u64 = self.expiry.find_buried(first)
        while slot and looks < limit:
            meta = self.slots.meta(slot)
            if self.slots.version(slot) == 0 or (
                (meta >> META_KEY_TYPE_SHIFT) & HAS_DEADLINE == 0
            ):
                self.expiry.forget(slot)  # of no entry: only damage leaves that
            elif slot != keep and (
                not is_tombstone(meta) or self.kept_until(slot, meta) <= now_ns
            ):
                self.remove_slot(slot, self.slot_hash(slot, meta))
            looks += 1
            slot = self.expiry.find_buried(slot + 1)
        return slot

    def unbury_some(self, now_ns, keep):
        """Remove those whose time is over of the next 64 tombstones: what a full map asks of each
        write must not grow with it."""
        following: u64 = self.unbury(load(self.mem, S_SCAN_HAND) + 1, now_ns, keep, 64)
        store(self.mem, S_SCAN_HAND, following - 1 if following else 0)

    def sacrifice(self, now_ns, keep):
        """Remove a tombstone that may have been to stay, since there is no room without: the next
        one behind where the last was. False: there is none."""
        lap: u64
        slot: u64
        meta: u64
        until_ns: u64
        first: u64 = load(self.mem, S_SCAN_HAND) + 1
        for lap in range(2):
            slot = self.expiry.find_buried(first)
            while slot:
                meta = self.slots.meta(slot)
                until_ns = self.kept_until(slot, meta)
                if slot != keep and self.slots.version(slot) and self.remove_slot(
                    slot, self.slot_hash(slot, meta)
                ):
                    store(self.mem, S_SCAN_HAND, slot)
                    if until_ns > now_ns:
                        self.lose_tombstone()
                    return True
                slot = self.expiry.find_buried(slot + 1)
            first = 1
        return False
