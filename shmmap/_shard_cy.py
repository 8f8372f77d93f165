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

`set_in_place` (counters, deadlines) changes one aligned word: the version
turns odd, the word changes, a new even version ends it. Readers of that key
wait meanwhile; whatever the word is when the writer dies is a whole value.

**Invariants**
 S1  a slot lives if and only if its version is not 0
 S2  versions are unique and at most STAMP
 S3  no key lives twice
 S4  ENTRIES and LIVE_BYTES count the live heads
 S5  SEQUENCE is even while DIRTY is 0
**Crash**: before 4's first store the old entry lives (a filled new one too:
repair keeps the newer); after it only the new one does.
**Locks**: `look`, `confirm`, `scan`, `read_*`, `is_expired` need none.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap._eviction_cy import Eviction
    from shmmap._expiry_cy import Expiry
    from shmmap._hash_cy import hash_key
    from shmmap._index_cy import Index
    from shmmap._slots_cy import Slots
    from shmmap._words import (
        Probe,
        equal,
        fence,
        i64,
        load,
        load_behind,
        lowest_bit,
        match_tag,
        memory,
        probe_t,
        room_of,
        store,
        u64,
        view,
    )
    from shmmap.layout import (  # type: ignore[attr-defined]
        BUCKET_BYTES,
        BUCKET_WORDS,
        E_BYTES_TOTAL,
        E_META,
        HAS_DEADLINE,
        KEY_LENGTH_MASK,
        KEY_META_MASK,
        KEY_TYPE_MASK,
        LOW_HALF,
        META_KEY_TYPE_SHIFT,
        META_LENGTH_SHIFT,
        META_VALUE_TYPE_SHIFT,
        S_DIRTY,
        S_EARLIEST_NS,
        S_ENTRIES,
        S_EVICTED,
        S_EXPIRED,
        S_IDLED,
        S_LIVE_BYTES,
        S_SCAN_HAND,
        S_SEQUENCE,
        S_STAMP,
        SLOT_MASK,
        TAG_SHIFT,
        TYPE_MASK,
        VALUE_INT,
        WORD_MASK,
    )

from shmmap.layout import shard_areas

COMPILED = cython.compiled

# what operations return
FOUND = 1
MISS = 0
AGAIN = -1  # another process changed it meanwhile: start again
FULL = -2
TOO_LARGE = -3
CORRUPT = -4


def value_position(meta):
    """Give where the value starts in an entry's bytes: after the key; aligned for integers."""
    length: u64 = meta & KEY_LENGTH_MASK
    if (meta >> META_VALUE_TYPE_SHIFT) & TYPE_MASK == VALUE_INT:
        return (length + 7) & ~7
    return length


def data_bytes(meta):
    """Count the bytes of an entry's key and value, padding included."""
    return value_position(meta) + (meta >> META_LENGTH_SHIFT)


class Shard:
    """The map in one segment's memory (`buffer`): see the module."""

    def __init__(self, buffer, number, slots, slot_size, buckets, evicts, shard_bits, seed,
                 lock, clock):
        areas = shard_areas(slots, slot_size, buckets, evicts)
        self.buffer = buffer
        self.mem = memory(buffer)
        self.number = number
        self.shard_bits = shard_bits
        self.seed = seed
        self.lock = lock
        self.clock = clock
        self.evicts = bool(evicts)
        self.index = Index(buffer, areas.index, buckets)
        self.slots = Slots(buffer, areas.next, areas.slots, slots, slot_size)
        self.expiry = Expiry(buffer, areas.deadlines, slots)
        self.eviction = Eviction(buffer, areas, slots if evicts else 0, shard_bits)
        # one slot stays in reserve, so that an overwrite never fails for want of one
        self.max_bytes = (slots - 1) * (slot_size - 8) - 8 if slots > 1 else 0
        self.scratch = None

    # -- reading, without the lock ------------------------------------------------

    def look(self, hash, key_type, key, key_length, out):
        """Look a key up: FOUND (fills `out`; confirm it), MISS (confirmed), AGAIN or CORRUPT."""
        tag: u64 = hash & LOW_HALF
        wanted: u64 = key_length | (key_type << META_KEY_TYPE_SHIFT)
        upper: u64 = (hash << self.shard_bits) >> 32
        bucket: u64 = ((upper & LOW_HALF) * self.index.buckets) >> 32  # index.home, in place
        sequence: u64 = load(self.mem, S_SEQUENCE)
        step: u64
        mask: u64
        position: u64
        word: u64
        slot: u64
        at: u64
        version: u64
        meta: u64
        for step in range(self.index.buckets):
            mask = match_tag(self.mem, self.index.base + bucket * BUCKET_BYTES, tag)
            while mask:
                position = bucket * BUCKET_WORDS + lowest_bit(mask)
                mask &= mask - 1
                word = load(self.mem, self.index.base + position * 8) & WORD_MASK
                slot = word & SLOT_MASK
                if slot == 0 or word >> TAG_SHIFT != tag:
                    continue
                if slot > self.slots.count:
                    return -4
                at = self.slots.base + (slot - 1) * self.slots.size
                version = load(self.mem, at)
                if version == 0 or version & 1:
                    return -1
                meta = load(self.mem, at + E_META)
                if meta & KEY_META_MASK == wanted and (
                    equal(self.mem, at + E_BYTES_TOTAL, key, 0, key_length)
                    if key_length <= self.slots.size - E_BYTES_TOTAL
                    else self.slots.same(slot, key, key_length)
                ):
                    out.position = position
                    out.bucket = bucket
                    out.word = word
                    out.slot = slot
                    out.version = version
                    out.meta = meta
                    if meta >> META_LENGTH_SHIFT > self.max_bytes:
                        return -4 if self.confirm(out) else -1
                    return 1
                if load_behind(self.mem, at) != version or self.index.word(position) != word:
                    return -1
            if not self.index.passed(bucket):
                break
            bucket = self.index.after(bucket)
        out.position = -1
        out.version = 0
        return 0 if sequence & 1 == 0 and load_behind(self.mem, S_SEQUENCE) == sequence else -1

    def confirm(self, found):
        """Tell whether what was read since `look` or `scan` was one live entry, whole."""
        at: u64 = self.slots.base + (found.slot - 1) * self.slots.size
        word_at: u64 = self.index.base + found.position * 8
        return (
            load_behind(self.mem, at) == found.version
            and load(self.mem, word_at) & WORD_MASK == found.word
        )

    def is_expired(self, found):
        """Tell whether a found entry's deadline has passed."""
        if (found.meta >> META_KEY_TYPE_SHIFT) & HAS_DEADLINE == 0 or not self.expiry.ready():
            return False
        deadline_ns: i64 = self.expiry.deadline(found.slot)
        return deadline_ns != 0 and deadline_ns <= self.clock.now()

    def scan(self, position, out):
        """Find the next live entry from index word `position` on: FOUND (confirm it), MISS at
        the end, AGAIN, or CORRUPT."""
        last: u64 = self.index.buckets * BUCKET_WORDS
        at: u64
        for at in range(position, last):
            out.word = self.index.word(at)
            out.slot = out.word & SLOT_MASK
            if out.slot == 0:
                continue
            out.position = at
            out.bucket = at // BUCKET_WORDS
            if out.slot > self.slots.count:
                return -4
            out.version = self.slots.version(out.slot)
            if out.version == 0 or out.version & 1:
                return -1
            out.meta = self.slots.meta(out.slot)
            if data_bytes(out.meta) > self.max_bytes:
                return -4 if self.confirm(out) else -1
            return 1
        return 0

    def read_key(self, found, target):
        """Copy a found entry's key out; False: its chain is short (confirm will fail, or it is
        corrupted)."""
        return self.slots.read(found.slot, 0, target, found.meta & KEY_LENGTH_MASK)

    def read_value(self, found, target):
        """Copy a found entry's value out; False as in `read_key`."""
        return self.slots.read(
            found.slot, value_position(found.meta), target, found.meta >> META_LENGTH_SHIFT
        )

    # -- writing; the caller holds the shard lock ---------------------------------

    def find(self, hash, key_type, key, key_length, out):
        """Look a key up under the lock: FOUND, MISS or CORRUPT."""
        status: i64 = self.look(hash, key_type, key, key_length, out)
        return -4 if status == -1 else status

    def stamp(self, now_ns):
        """Give out a new version: the time, or the last one's successor; even, and unique here.
        Source: hybrid logical clocks: Kulkarni et al., OPODIS 2014."""
        last: u64 = load(self.mem, S_STAMP)
        version: u64 = now_ns << 1
        if version <= last:
            version = (last | 1) + 1
        store(self.mem, S_STAMP, version)
        return version

    def put(self, hash, key_type, key, key_length, value_type, value, value_length,
            deadline_ns, found):
        """Write an entry in place of the one `found` (position -1: none).

        Gives FOUND with the new version in `found`, FULL (nothing changed but expired and
        evicted entries), or TOO_LARGE.
        """
        now_ns: u64 = self.clock.now()
        meta: u64 = (
            key_length
            | (key_type << META_KEY_TYPE_SHIFT)
            | (value_type << META_VALUE_TYPE_SHIFT)
            | (value_length << META_LENGTH_SHIFT)
        )
        need: u64 = self.slots.needed(data_bytes(meta))
        had: u64 = 0
        head: u64
        room: i64 = -1
        if data_bytes(meta) > self.max_bytes:
            return -3
        store(self.mem, S_DIRTY, 1)
        if self.expiry.due(now_ns):
            self.reclaim_some(now_ns, found.slot if found.position >= 0 else 0)
        if found.position >= 0:
            had = self.slots.needed(data_bytes(found.meta))
        if not self.has_room(need, had) and not self.make_room(
            need, had, found.slot if had else 0, now_ns
        ):
            if not self.evicts or not had:
                store(self.mem, S_DIRTY, 0)
                return -2
            self.remove(hash, found)  # all others are evicted: the old value goes first
            had = 0
        if not had:
            room = self.index.find_room(self.index.home(hash, self.shard_bits))
            if room < 0:
                return -4
        head = self.slots.take(need)
        if head == 0:
            return -4
        if deadline_ns:
            meta |= HAS_DEADLINE << META_KEY_TYPE_SHIFT
        self.fill(head, meta, key, value, deadline_ns)
        found.version = self.stamp(now_ns)
        if self.evicts:
            if had:
                self.eviction.replaced(found.slot, head)
            else:
                self.eviction.inserted(head, hash)
        store(self.mem, self.slots.at(head), found.version)
        self.flip(hash, head, found, room)
        if had:
            self.release_slots(found.slot, found.meta)
        else:
            store(self.mem, S_ENTRIES, load(self.mem, S_ENTRIES) + 1)
        store(self.mem, S_LIVE_BYTES, load(self.mem, S_LIVE_BYTES) + key_length + value_length)
        store(self.mem, S_DIRTY, 0)
        found.slot = head
        found.meta = meta
        return 1

    def fill(self, head, meta, key, value, deadline_ns):
        """Write everything of an unreachable entry but its version."""
        fence()
        store(self.mem, self.slots.at(head) + E_META, meta)
        self.slots.write(head, 0, key, meta & KEY_LENGTH_MASK)
        if meta >> META_LENGTH_SHIFT:
            self.slots.write(head, value_position(meta), value, meta >> META_LENGTH_SHIFT)
        if deadline_ns:
            self.expiry.set(head, deadline_ns)

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
            store(self.mem, self.slots.at(found.slot), 0)
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

    def erase(self, hash, found):
        """Remove a found entry: a whole operation."""
        store(self.mem, S_DIRTY, 1)
        self.remove(hash, found)
        store(self.mem, S_DIRTY, 0)

    def remove(self, hash, found):
        """Remove a found entry, within an operation."""
        self.flip(hash, 0, found, -1)
        if self.evicts:
            self.eviction.removed(found.slot)
        self.release_slots(found.slot, found.meta)
        store(self.mem, S_ENTRIES, load(self.mem, S_ENTRIES) - 1)
        found.position = -1

    def change_word(self, offset, value, found):
        """Change one aligned word of a live entry and give it a new version, within an
        operation."""
        at: u64 = self.slots.at(found.slot)
        version: u64 = self.stamp(self.clock.now())
        store(self.mem, at, found.version | 1)
        fence()
        store(self.mem, offset, value)
        store(self.mem, at, version)
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
            self.expiry.hasten(deadline_ns)
            self.change_word(self.expiry.at(found.slot), deadline_ns, found)
        elif deadline_ns:
            self.expiry.set(found.slot, deadline_ns)
            self.change_word(meta_at, found.meta | flag, found)
        elif found.meta & flag:
            self.change_word(meta_at, found.meta & ~flag, found)
            self.expiry.forget(found.slot)
        else:
            self.change_word(meta_at, found.meta, found)
        store(self.mem, S_DIRTY, 0)

    # -- making room; the caller holds the shard lock, DIRTY is 1 ---------------------

    def has_room(self, need, had):
        """Tell whether `need` slots can be taken where `had` come back, one staying in reserve."""
        free: u64 = self.slots.free_slots()
        return free >= need and free + had > need

    def make_room(self, need, had, keep, now_ns):
        """Remove expired entries, then evict, until there is room; tell whether there is.

        The entry at slot `keep` stays.
        """
        if self.expiry.due(now_ns):
            self.reclaim(1, self.slots.count, now_ns, keep, self.slots.count)
            self.expiry.settle()
        while self.evicts and not self.has_room(need, had):
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
        if first > self.slots.count:
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
        slot: u64 = self.expiry.find_due(first, now_ns)
        while slot and slot <= last and done < limit:
            if slot != keep and self.slots.version(slot) != 0 and self.remove_slot(
                slot, self.slot_hash(slot, self.slots.meta(slot))
            ):
                done += 1
            slot = self.expiry.find_due(slot + 1, now_ns)
        if done:
            store(self.mem, S_EXPIRED, load(self.mem, S_EXPIRED) + done)
        return slot if slot <= last else 0

    def sweep_expired(self, first, now_ns, limit):
        """Remove at most `limit` expired entries from slot `first` on: a whole operation.

        Gives the slot to go on from; 0: done, and EARLIEST is exact.
        """
        following: u64
        store(self.mem, S_DIRTY, 1)
        following = self.reclaim(first, self.slots.count, now_ns, 0, limit)
        if following == 0:
            self.expiry.settle()
        store(self.mem, S_DIRTY, 0)
        return following

    def sweep_idle(self, first, before_ns, limit):
        """Remove entries not written since `before_ns`, looking at `limit` slots from `first`.

        Gives the slot to go on from; 0: done.
        """
        slot: u64
        version: u64
        last: u64 = first + limit - 1
        if last > self.slots.count:
            last = self.slots.count
        store(self.mem, S_DIRTY, 1)
        for slot in range(first, last + 1):
            version = self.slots.version(slot)
            if version and version >> 1 < before_ns and self.remove_slot(
                slot, self.slot_hash(slot, self.slots.meta(slot))
            ):
                store(self.mem, S_IDLED, load(self.mem, S_IDLED) + 1)
        store(self.mem, S_DIRTY, 0)
        return last + 1 if last < self.slots.count else 0

    def clear(self):
        """Remove every entry: a whole operation. A death in it leaves some of them."""
        slot: u64
        sequence: u64 = load(self.mem, S_SEQUENCE)
        store(self.mem, S_DIRTY, 1)
        store(self.mem, S_SEQUENCE, sequence + 1)
        for slot in range(1, self.slots.count + 1):
            if self.slots.version(slot):
                store(self.mem, self.slots.at(slot), 0)
        fence()
        self.index.clear()
        store(self.mem, S_SEQUENCE, sequence + 2)
        for slot in range(1, self.slots.count + 1 if self.expiry.ready() else 1):
            self.expiry.forget(slot)
        if self.evicts:
            self.eviction.reset()
        self.slots.reset(1)
        store(self.mem, S_EARLIEST_NS, 0)
        store(self.mem, S_ENTRIES, 0)
        store(self.mem, S_LIVE_BYTES, 0)
        store(self.mem, S_DIRTY, 0)

    def remove_slot(self, slot, hash):
        """Remove the live entry at a slot, within an operation; False: the index does not
        name it."""
        if cython.compiled:
            a_probe: Probe
            found: probe_t = cython.address(a_probe)
        else:
            found = Probe()
        step: u64
        mask: u64
        bucket: u64 = self.index.home(hash, self.shard_bits)
        found.slot = slot
        found.meta = self.slots.meta(slot)
        for step in range(self.index.buckets):
            mask = self.index.match(bucket, hash & LOW_HALF)
            while mask:
                found.position = bucket * BUCKET_WORDS + lowest_bit(mask)
                mask &= mask - 1
                if self.index.word(found.position) & SLOT_MASK == slot:
                    self.remove(hash, found)
                    return True
            if not self.index.passed(bucket):
                break
            bucket = self.index.after(bucket)
        return False

    def slot_hash(self, slot, meta):
        """Hash the key of a live entry."""
        length: u64 = meta & KEY_LENGTH_MASK
        kind: u64 = (meta >> META_KEY_TYPE_SHIFT) & KEY_TYPE_MASK
        if length <= self.slots.size - E_BYTES_TOTAL:
            return hash_key(
                view(self.mem, self.slots.at(slot) + E_BYTES_TOTAL, length),
                length, kind, self.seed,
            )
        if self.scratch is None:
            self.scratch = bytearray(KEY_LENGTH_MASK + 1)
        self.slots.read(slot, 0, room_of(self.scratch), length)
        return hash_key(room_of(self.scratch), length, kind, self.seed)

    def has_deadlines(self) -> bool:
        """Tell whether the deadlines' pages are reserved, to Python callers."""
        return bool(self.expiry.ready())
