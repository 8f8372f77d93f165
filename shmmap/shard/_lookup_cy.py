# mypy: ignore-errors
"""Reading a shard without its lock.

    look -> copy out -> deadline -> confirm

A hit rests on the version and the index word being unchanged since `look`; a
miss on the same even SEQUENCE before and after the probe. Nothing read here is
trusted before `confirm`, and everything read is checked against its bound.

**Locks**: none. The lock holder uses the same functions.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import (
        copy_bytes,
        equal,
        i64,
        load,
        load_behind,
        lowest_bit,
        match_tag,
        memory,
        new_room,
        prefetch,
        room_for_key,
        target_of,
        u64,
        view,
    )
    from shmmap.memory._hash_cy import hash_key
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        AHEAD,
        BUCKET_BYTES,
        BUCKET_WORDS,
        CACHE_LINE,
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
        S_ENTRIES,
        S_MOVED,
        S_REBUILDS,
        S_SEQUENCE,
        S_TOMBSTONES,
        SLOT_MASK,
        TAG_SHIFT,
        TYPE_MASK,
        UNIT_BITS,
        VALUE_INSIDE,
        VALUE_TYPE_MAX,
        VALUES_ANYWHERE,
        WORD_MASK,
    )
    from shmmap.shard._eviction_cy import Eviction
    from shmmap.shard._expiry_cy import Expiry
    from shmmap.shard._index_cy import Index
    from shmmap.shard._slots_cy import Slots, data_bytes, value_position
    from shmmap.shard._status import AGAIN, CORRUPT, FOUND, MISS

from shmmap.memory.layout import shard_areas

COMPILED = cython.compiled
INSIDE = type("Inside", (), {"__repr__": lambda self: "<in the probe>"})()
PUBLIC = 1  # in MOVED, too: where the entries are has the name that all know


class ShardLookup:
    """A shard's memory, and how to look things up in it."""

    def __init__(self, buffer, number, slots, slot_size, buckets, evicts, shard_bits, seed,
                 lock, clock, generation=0):
        areas = shard_areas(slots, slot_size, buckets, evicts)
        self.buffer = buffer
        self.mem = memory(buffer)
        self.number = number
        self.generation = generation
        self.mover = PUBLIC  # whose private name it had as this process mapped it
        self.shard_bits = shard_bits
        self.seed = seed
        self.repairer = None  # see `equip`
        self.lock = lock
        self.clock = clock
        self.evicts = bool(evicts)
        self.index = Index(buffer, areas.index, buckets)
        self.slots = Slots(buffer, areas.next, areas.slots, slots, slot_size, areas.changed)
        self.expiry = Expiry(buffer, areas.deadlines, slots)
        self.eviction = Eviction(buffer, areas, slots if evicts else 0, shard_bits)
        # one slot stays in reserve, so that an overwrite never fails for want of one
        self.max_bytes = (slots - 1) * (slot_size - 8) - 8 if slots > 1 else 0

    def moved_to(self) -> int:
        """Load MOVED: 0, or the token of the mover whose shards have the entries now."""
        return load(self.mem, S_MOVED)

    def unit_after(self):
        """Return the unit of the hash that follows this shard's: see `memory.table`."""
        return (self.number + 1) << (UNIT_BITS - self.shard_bits)

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
                    return CORRUPT
                at = self.slots.base + (slot - 1) * self.slots.size
                if cython.compiled:  # the value is wanted too: fetch its lines at once
                    prefetch(self.mem, at + CACHE_LINE)
                    prefetch(self.mem, at + 2 * CACHE_LINE)
                version = load(self.mem, at)
                if version == 0 or version & 1:
                    return AGAIN
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
                        return CORRUPT if self.confirm(out) else AGAIN
                    return FOUND
                if load_behind(self.mem, at) != version or self.index.word(position) != word:
                    return AGAIN
            if not self.index.passed(bucket):
                break
            bucket = self.index.after(bucket)
        out.position = -1
        out.version = 0
        is_same: cython.bint = sequence & 1 == 0 and load_behind(self.mem, S_SEQUENCE) == sequence
        return MISS if is_same else AGAIN

    def foresee(self, hash):
        """Have the processor fetch where the index leads to for a hash: a hint, to the processor
        alone. Compiled only."""
        if cython.compiled:
            bucket: u64 = self.index.home(hash, self.shard_bits)
            prefetch(self.mem, self.index.base + bucket * BUCKET_BYTES)

    def foresee_entry(self, hash):
        """The same for the entry, once the index is there."""
        if cython.compiled:
            bucket: u64 = self.index.home(hash, self.shard_bits)
            mask: u64 = self.index.match(bucket, hash & LOW_HALF)
            if mask:
                slot: u64 = self.index.word(
                    bucket * BUCKET_WORDS + lowest_bit(mask)) & SLOT_MASK
                at: u64 = self.slots.base + (slot - 1) * self.slots.size
                prefetch(self.mem, at)
                prefetch(self.mem, at + CACHE_LINE)
                prefetch(self.mem, self.slots.next_base + 4 * slot)  # of a writer

    def foresee_bucket(self, position):
        """The same for the entries of the bucket that begins with this index word."""
        if cython.compiled:
            at: u64
            slot: u64
            place: u64
            if position >= self.index.buckets * BUCKET_WORDS:
                return
            for at in range(position, position + BUCKET_WORDS):
                slot = load(self.mem, self.index.base + at * 8) & SLOT_MASK
                if slot:
                    place = self.slots.base + (slot - 1) * self.slots.size
                    prefetch(self.mem, place)
                    prefetch(self.mem, place + CACHE_LINE)
                    prefetch(self.mem, place + 2 * CACHE_LINE)

    def find(self, hash, key_type, key, key_length, out):
        """Look a key up while the lock is held: FOUND, MISS or CORRUPT."""
        status: i64 = self.look(hash, key_type, key, key_length, out)
        return CORRUPT if status == AGAIN else status

    def raw_bytes(self, found, position, length):
        """Copy bytes of a found entry out; None: its chain was cut meanwhile."""
        slots: Slots = self.slots
        if position + length <= slots.size - E_BYTES_TOTAL:
            return copy_bytes(
                self.mem, slots.base + (found.slot - 1) * slots.size + E_BYTES_TOTAL + position,
                length,
            )
        room = new_room(length)
        if not slots.read(found.slot, position, target_of(room), length):
            return None
        return room if cython.compiled else bytes(room)

    def raw_value(self, found):
        """Copy a found value's bytes out; None: its chain was cut meanwhile."""
        return self.raw_bytes(found, value_position(found.meta), found.meta >> META_LENGTH_SHIFT)

    def copy_value(self, found):
        """Copy a found value out: its bytes, or, where it is short, and decoded from wherever it
        is, into `found`: INSIDE. None: its chain was cut meanwhile."""
        if cython.compiled:
            length: u64 = found.meta >> META_LENGTH_SHIFT
            kind: u64 = (found.meta >> META_VALUE_TYPE_SHIFT) & TYPE_MASK
            one: u64 = 1
            if length <= VALUE_INSIDE and kind <= VALUE_TYPE_MAX and one << kind & VALUES_ANYWHERE:
                return INSIDE if self.slots.read(
                    found.slot, value_position(found.meta), cython.cast("char*", found.inside),
                    length,
                ) else None
        return self.raw_value(found)

    def raw_key(self, found):
        """Copy a found key's bytes out; None: its chain was cut meanwhile."""
        return self.raw_bytes(found, 0, found.meta & KEY_LENGTH_MASK)

    def confirm(self, found):
        """Tell whether what was read since `look` or `scan` was one live entry, whole."""
        at: u64 = self.slots.base + (found.slot - 1) * self.slots.size
        word_at: u64 = self.index.base + found.position * 8
        return (
            load_behind(self.mem, at) == found.version
            and load(self.mem, word_at) & WORD_MASK == found.word
        )

    def is_expired(self, found):
        """Tell whether a found entry's deadline has passed; note the deadline in `found`."""
        found.deadline = 0
        if (found.meta >> META_KEY_TYPE_SHIFT) & HAS_DEADLINE and self.expiry.ready():
            found.deadline = self.expiry.deadline(found.slot)
        return found.deadline != 0 and found.deadline <= self.clock.now()

    def is_live(self, status, found):
        """Tell whether a lookup found an entry whose deadline has not passed."""
        return status == FOUND and not self.is_expired(found)

    def scan(self, position, out):
        """Find the next live entry from index word `position` on: FOUND (confirm it), MISS at
        the end, AGAIN, or CORRUPT."""
        last: u64 = self.index.buckets * BUCKET_WORDS
        base: u64 = self.index.base
        at: u64
        for at in range(position, last):
            if cython.compiled and at % BUCKET_WORDS == 0:
                self.foresee_bucket(at + AHEAD)
            out.word = load(self.mem, base + at * 8) & WORD_MASK  # index.word, without the call
            out.slot = out.word & SLOT_MASK
            if out.slot == 0:
                continue
            out.position = at
            out.bucket = at // BUCKET_WORDS
            if out.slot > self.slots.count:
                return CORRUPT
            out.version = self.slots.version(out.slot)
            if out.version == 0 or out.version & 1:
                return AGAIN
            out.meta = self.slots.meta(out.slot)
            if data_bytes(out.meta) > self.max_bytes:
                return CORRUPT if self.confirm(out) else AGAIN
            return FOUND
        return MISS

    def count_live(self, now_ns):
        """Count the entries whose deadline has not passed.

        The header's number is behind while a change is under way, and stays so if its writer is
        stopped. Then what the index leads to counts, or, while that is rebuilt, the live heads:
        all but the one change, which may count or not.
        """
        entries: u64 = load(self.mem, S_ENTRIES)
        due: u64
        if load(self.mem, S_DIRTY):
            return self.count_heads(now_ns, self.slots.count)
        due = self.expiry.count_due(now_ns) + load(self.mem, S_TOMBSTONES)
        if entries > self.slots.count:  # damaged: len() must stay a length all the same
            entries = self.slots.count
        return entries - due if entries > due else 0

    def has_live(self, now_ns):
        """Tell whether there is an entry whose deadline has not passed: see `count_live`."""
        if load(self.mem, S_DIRTY) == 0:
            if load(self.mem, S_ENTRIES) == 0:
                return False
            if not self.expiry.due(now_ns) and load(self.mem, S_TOMBSTONES) == 0:
                return True
        return self.count_heads(now_ns, 1) != 0

    def count_heads(self, now_ns, most):
        """Count the entries that are there, without a look at the header's number; no further
        than to `most`."""
        found: u64 = 0
        at: u64
        slot: u64
        deadline: i64
        rebuilt: bool = load(self.mem, S_REBUILDS) & 1 != 0
        for at in range(self.slots.count if rebuilt else self.index.buckets * BUCKET_WORDS):
            slot = at + 1 if rebuilt else self.index.word(at) & SLOT_MASK
            if slot == 0 or slot > self.slots.count:
                continue
            if rebuilt and self.slots.version(slot) == 0:
                continue
            deadline = 0
            if self.slots.meta(slot) >> META_KEY_TYPE_SHIFT & HAS_DEADLINE and self.expiry.ready():
                deadline = self.expiry.deadline(slot)
            if deadline == 0 or deadline > now_ns:
                found += 1
                if found >= most:
                    break
        return found

    def slot_hash(self, slot, meta):
        """Hash the key of a live entry."""
        length: u64 = meta & KEY_LENGTH_MASK
        kind: u64 = (meta >> META_KEY_TYPE_SHIFT) & KEY_TYPE_MASK
        if length <= self.slots.size - E_BYTES_TOTAL:
            return hash_key(
                view(self.mem, self.slots.at(slot) + E_BYTES_TOTAL, length),
                length, kind, self.seed,
            )
        room = room_for_key(length)
        self.slots.read(slot, 0, room, length)
        return hash_key(room, length, kind, self.seed)

    def entries(self) -> int:
        """Count the live entries, for Python callers; see `count_live`."""
        return self.count_live(self.clock.now())

    def has_deadlines(self) -> bool:
        """Tell whether the deadlines' pages are reserved, to Python callers."""
        return bool(self.expiry.ready())
