# mypy: ignore-errors
"""One shard: a complete small map under one lock. It deals in bytes.

Read (no lock):  look -> copy out -> deadline -> confirm. A hit rests on the
version and the index word being unchanged; a miss on the same even sequence
before and after.

Write (lock held, by the caller):
 1  DIRTY = 1
 2  find the key; make room; take slots (unreachable, version 0)
 3  fill them: bytes, chain, meta, deadline; STAMP, then the new version
 4  SEQUENCE odd; end the old version; the index word; SEQUENCE even
 5  give the old slots back; counts; DIRTY = 0

`set_in_place` (counters), `set_deadline` change one aligned word, or half of
one: the version turns odd, the word changes, a new even version ends it. Readers
of that key wait meanwhile; what it is when the writer dies is a whole value.

**Invariants**
 S1  a slot lives if and only if its version is not 0
 S2  versions are unique and at most STAMP
 S3  no key lives twice
 S4  ENTRIES and LIVE_BYTES count the live heads
 S5  SEQUENCE is even while DIRTY is 0
**Crash**: before 4's first store the old entry lives (a filled new one too:
repair keeps the newer); after it only the new one does. A removal takes steps 1, 4 and 5.
**Room** comes from expired entries, then, where a map evicts, from those that the policy names: see
`_removing_cy`, which also says what tombstones are. `bury` is a write of one.

**Origins**: an entry that was merged has a version of its own, which says when it came. When it was
written says a word behind its value (HAS_ORIGIN in the value's type), with the version that it is
of: of an entry that is changed in place since it says nothing. See `stamp_of`.
**Locks**: what is read (`_lookup_cy`) needs none; everything here needs the shard lock.
"""

from __future__ import annotations

import sys

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import (
        fence,
        i64,
        load,
        new_probe,
        probe_t,
        room_for_key,
        store,
        u64,
        view,
    )
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        E_BYTES_TOTAL,
        E_META,
        HAS_DEADLINE,
        HAS_ORIGIN,
        KEY_LENGTH_MASK,
        KEY_TYPE_MASK,
        META_KEY_TYPE_SHIFT,
        META_LENGTH_SHIFT,
        META_VALUE_TYPE_SHIFT,
        ORIGIN_BYTES,
        ORIGIN_SHIFT,
        S_AGED,
        S_DIRTY,
        S_EARLIEST_NS,
        S_ENTRIES,
        S_LIVE_BYTES,
        S_SEQUENCE,
        S_STAMP,
        S_TOMBSTONES,
        TYPE_MASK,
        VALUE_INT,
        VALUE_TOMBSTONE,
        VERSION_SUSPECT,
    )
    from shmmap.shard._removing_cy import ShardRemoving
    from shmmap.shard._slots_cy import data_bytes, is_tombstone, value_position
    from shmmap.shard._status import CORRUPT, FOUND, FULL, TOO_LARGE

COMPILED = cython.compiled


class Shard(ShardRemoving):
    """The map in one segment's memory: see the module. Where nothing else is said, a method is a
    whole operation."""

    # -- writing -------------------------------------------------------------------------------

    def stamp(self, now_ns):
        """Hand out a new version: the time, or the last one's successor; even, and unique here.
        Source: hybrid logical clocks: Kulkarni et al., OPODIS 2014."""
        last: u64 = load(self.mem, S_STAMP)
        version: u64 = now_ns << 1
        if version <= last and last < VERSION_SUSPECT:  # from there on it is damage
            version = (last | 1) + 1
        store(self.mem, S_STAMP, version)
        return version

    def upcoming(self, now_ns):
        """Return the version that `stamp` would hand out."""
        last: u64 = load(self.mem, S_STAMP)
        version: u64 = now_ns << 1
        if version <= last and last < VERSION_SUSPECT:
            version = (last | 1) + 1
        return version

    def stamp_of(self, found, wall_ns):
        """Return when a found entry was written, in nanoseconds of the wall clock. `wall_ns`: that
        clock at boot, as the map's maker saw it."""
        at: u64
        if (found.meta >> ORIGIN_SHIFT) & ORIGIN_BYTES:
            at = value_position(found.meta) + (found.meta >> META_LENGTH_SHIFT)
            if self.slots.word(found.slot, at) == found.version:
                return self.slots.word(found.slot, at + 8)
        return wall_ns + (found.version >> 1)

    def put(self, hash, key_type, key, key_length, value_type, value, value_length,
            deadline_ns, evict, found):
        """Write an entry in place of the one `found` (position -1: none). `value_type`: with
        HAS_ORIGIN, its origin follows on the value; see `upcoming`.

        Returns FOUND with the new version in `found`, FULL (nothing changed but expired and
        evicted entries), or TOO_LARGE.
        """
        now_ns: u64 = self.clock.seen_ns
        meta: u64 = (
            key_length
            | (key_type << META_KEY_TYPE_SHIFT)
            | (value_type << META_VALUE_TYPE_SHIFT)
            | (value_length << META_LENGTH_SHIFT)
        )
        length: u64 = key_length  # not out of `meta`: a key that is too long has more bits there
        if value_type & TYPE_MASK == VALUE_INT:
            length = (length + 7) & ~7
        length += value_length + ((value_type & HAS_ORIGIN) >> 3)
        need: u64
        had: u64 = 0
        head: u64
        room: i64 = -1
        if length > self.max_bytes:
            return TOO_LARGE
        store(self.mem, S_DIRTY, 1)  # step 1
        if self.expiry.due(now_ns):
            self.reclaim_some(now_ns, found.slot if found.position >= 0 else 0)
        need = self.slots.needed(length)
        if found.position >= 0:
            had = self.slots.needed(data_bytes(found.meta))
        if not self.has_room(need, had) and not self.make_room(
            need, had, found.slot if had else 0, now_ns, evict
        ):
            if not self.evicts or not evict or not had:
                store(self.mem, S_DIRTY, 0)
                return FULL
            self.remove(hash, found)  # all others are evicted: the old value goes first
            had = 0
        if not had:
            room = self.index.find_room(self.index.home(hash, self.shard_bits))
            if room < 0:
                return CORRUPT
        head = self.slots.take(need)  # step 2: unreachable, version 0
        if head == 0:
            return CORRUPT
        if deadline_ns:
            meta |= HAS_DEADLINE << META_KEY_TYPE_SHIFT
            if is_tombstone(meta):
                store(self.mem, S_TOMBSTONES, load(self.mem, S_TOMBSTONES) + 1)
        self.fill(head, meta, key, value, deadline_ns)  # step 3
        found.version = self.stamp(now_ns)  # STAMP first: no version is given twice
        if self.evicts:
            if had:
                self.eviction.replaced(found.slot, head)
            else:
                self.eviction.inserted(head, hash)
        self.slots.set_version(head, found.version)  # alive: a repair would keep it
        self.flip(hash, head, found, room)  # step 4
        if had:  # step 5
            self.release_slots(found.slot, found.meta)
        else:
            store(self.mem, S_ENTRIES, load(self.mem, S_ENTRIES) + 1)
        store(self.mem, S_LIVE_BYTES, load(self.mem, S_LIVE_BYTES) + key_length + value_length)
        store(self.mem, S_DIRTY, 0)  # the end of step 5
        found.slot = head
        found.meta = meta
        return FOUND

    def fill(self, head, meta, key, value, deadline_ns):
        """Write everything of an unreachable entry but its version."""
        length: u64 = (meta >> META_LENGTH_SHIFT) + ((meta >> ORIGIN_SHIFT) & ORIGIN_BYTES)
        fence()
        store(self.mem, self.slots.at(head) + E_META, meta)
        self.slots.write(head, 0, key, meta & KEY_LENGTH_MASK)
        if length:
            self.slots.write(head, value_position(meta), value, length)
        if deadline_ns:
            if is_tombstone(meta):
                self.expiry.bury(head)
            else:
                self.expiry.set(head, deadline_ns)

    def change_word(self, offset, value, found):
        """Change one aligned word of a live entry and give it a new version, within an
        operation."""
        version: u64 = self.stamp(self.clock.seen_ns)
        self.slots.set_version(found.slot, found.version | 1)
        fence()
        store(self.mem, offset, value)
        self.slots.set_version(found.slot, version)
        found.version = version

    def change_deadline(self, deadline_ns, found):
        """Likewise the deadline of one that has a deadline."""
        version: u64 = self.stamp(self.clock.seen_ns)
        self.slots.set_version(found.slot, found.version | 1)
        fence()
        self.expiry.set(found.slot, deadline_ns)
        self.slots.set_version(found.slot, version)
        found.version = version

    def set_in_place(self, offset, value, found):
        """Change one aligned word of a live entry: a whole operation."""
        store(self.mem, S_DIRTY, 1)
        self.change_word(offset, value, found)
        store(self.mem, S_DIRTY, 0)

    def set_deadline(self, deadline_ns, found):
        """Change a live entry's deadline (0: none) and give it a new version: a whole operation.

        Without the flag in the meta word nobody looks at the deadline, so setting the flag
        publishes a first deadline, and clearing it withdraws the last.
        """
        meta_at: u64 = self.slots.at(found.slot) + E_META
        flag: u64 = HAS_DEADLINE << META_KEY_TYPE_SHIFT
        store(self.mem, S_DIRTY, 1)
        if deadline_ns and found.meta & flag:
            self.change_deadline(deadline_ns, found)
        elif deadline_ns:
            self.expiry.set(found.slot, deadline_ns)
            self.change_word(meta_at, found.meta | flag, found)
        elif found.meta & flag:
            self.change_word(meta_at, found.meta & ~flag, found)
            self.expiry.forget(found.slot)
        else:
            self.change_word(meta_at, found.meta, found)
        store(self.mem, S_DIRTY, 0)

    # -- removing ------------------------------------------------------------------------------

    def erase(self, hash, found):
        """Remove a found entry: a whole operation."""
        store(self.mem, S_DIRTY, 1)
        self.remove(hash, found)
        store(self.mem, S_DIRTY, 0)

    def bury(self, hash, found, until_ns):
        """Put a tombstone in the place of a found entry: a whole operation. It stays until a time.

        Returns FOUND, FULL (nothing has changed) or CORRUPT.
        """
        length: u64 = found.meta & KEY_LENGTH_MASK
        kind: u64 = (found.meta >> META_KEY_TYPE_SHIFT) & KEY_TYPE_MASK
        if not self.expiry.ready():
            return FULL
        room = room_for_key(length)
        key = room
        if length <= self.slots.size - E_BYTES_TOTAL:
            key = view(self.mem, self.slots.at(found.slot) + E_BYTES_TOTAL, length)
        elif not self.slots.read(found.slot, 0, room, length):
            return CORRUPT
        if cython.compiled:
            value = cython.cast("const char*", cython.address(until_ns))
        else:
            value = until_ns.to_bytes(8, sys.byteorder)
        status: i64 = self.put(
            hash, kind, key, length, VALUE_TOMBSTONE, value, 8, until_ns, False, found
        )
        if status == FOUND and self.evicts:
            self.eviction.put_back(found.slot)
        return status

    def bury_all(self, until_ns):
        """Put a tombstone in the place of every live entry, one by one; what has expired is
        removed, and what there is no room for."""
        found: probe_t = new_probe()
        slot: u64
        hash: u64
        for slot in range(1, self.slots.count + 1):
            found.slot = slot
            found.version = self.slots.version(slot)
            if found.version == 0:
                continue
            found.meta = self.slots.meta(slot)
            if is_tombstone(found.meta):
                continue
            hash = self.slot_hash(slot, found.meta)
            found.position = self.index_word_of(slot, hash)
            if found.position < 0:
                continue
            if self.is_expired(found):
                self.erase(hash, found)
            elif self.bury(hash, found, until_ns) != FOUND:
                self.lose_tombstone()
                self.erase(hash, found)

    # -- sweeping and clearing -----------------------------------------------------------------

    def sweep_expired(self, first, now_ns, limit):
        """Remove at most `limit` expired entries from slot `first` on: a whole operation.

        Returns the slot to go on from; 0: done, and EARLIEST is exact.
        """
        following: u64
        store(self.mem, S_DIRTY, 1)
        following = self.reclaim(first, self.slots.count, now_ns, 0, limit)
        if following == 0:
            self.expiry.settle()
        store(self.mem, S_DIRTY, 0)
        return following

    def sweep_tombstones(self, first, now_ns, limit):
        """Remove the tombstones whose time is over, looking at `limit` from slot `first` on: a
        whole operation. Returns the slot to go on from; 0: done."""
        following: u64
        store(self.mem, S_DIRTY, 1)
        following = self.unbury(first, now_ns, 0, limit)
        store(self.mem, S_DIRTY, 0)
        return following

    def sweep_aged(self, first, before_ns, limit):
        """Remove entries not written since `before_ns`, looking at `limit` slots from `first`.

        Returns the slot to go on from; 0: done.
        """
        slot: u64
        version: u64
        last: u64 = first + limit - 1
        if last > self.slots.count:
            last = self.slots.count
        store(self.mem, S_DIRTY, 1)
        for slot in range(first, last + 1):
            version = self.slots.version(slot)
            if version == 0 or version >> 1 >= before_ns or is_tombstone(self.slots.meta(slot)):
                continue
            if self.remove_slot(slot, self.slot_hash(slot, self.slots.meta(slot))):
                store(self.mem, S_AGED, load(self.mem, S_AGED) + 1)
        store(self.mem, S_DIRTY, 0)
        return last + 1 if last < self.slots.count else 0

    def end_all(self, first, last, singly):
        """End the live entries at slots `first` to `last`, and empty the index: `singly`, where
        they are but few; return how many there were."""
        slot: u64
        ended: u64 = 0
        for slot in range(first, last + 1):
            if self.slots.version(slot):
                ended += 1
                self.slots.set_version(slot, 0)
                fence()
                singly = singly and self.forget_word(slot)
        fence()
        if not singly:
            self.index.clear()
        return ended

    def forget_word(self, slot):
        """Take a slot whose entry has just ended out of the index; False: it is not there."""
        hash: u64 = self.slot_hash(slot, self.slots.meta(slot))
        position: i64 = self.index_word_of(slot, hash)
        if position < 0:
            return False
        self.index.put(position, 0, 0)
        self.index.unmark(self.index.home(hash, self.shard_bits), position)
        return True

    def clear(self):
        """Remove every entry: a whole operation. A death in it leaves some of them.

        Costs what was used, not what there is: slots from FRESH on are not touched, nor, where
        few slots were used, the pages of the index that no entry was in.
        """
        sequence: u64 = load(self.mem, S_SEQUENCE)
        used: u64 = self.slots.used()
        ended: u64
        store(self.mem, S_DIRTY, 1)
        store(self.mem, S_SEQUENCE, sequence + 1)
        ended = self.end_all(1, used, used << 6 < self.slots.count)
        if ended != load(self.mem, S_ENTRIES):  # damage: look everywhere
            self.end_all(used + 1, self.slots.count, False)
            used = self.slots.count
        store(self.mem, S_SEQUENCE, sequence + 2)
        if self.expiry.ready():
            self.expiry.forget_all(used)
        if self.evicts:
            self.eviction.reset(used)
        self.slots.reset(1, used)
        store(self.mem, S_EARLIEST_NS, 0)
        store(self.mem, S_ENTRIES, 0)
        store(self.mem, S_TOMBSTONES, 0)
        store(self.mem, S_LIVE_BYTES, 0)
        store(self.mem, S_DIRTY, 0)
