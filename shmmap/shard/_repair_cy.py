# mypy: ignore-errors
"""Repair a shard after a dead or broken-off change.

The slots are the truth; index, free list, counts, deadlines of dead slots and
the eviction state are derived, so a repair is one pass over the slots:

 1  SEQUENCE odd: misses wait, hits rest on versions as ever; empty the index
 2  for each live head: is it plausible (lengths, types, chain)? If not, it was
    corrupted: drop it. Changing in place: its word is whole; new version.
    Another live head has its key: the newer version wins, the older ends.
    The newest version of all comes last: its twin has ended before it can be found.
 3  everything unclaimed goes to the free list; recount; SEQUENCE even; DIRTY 0

**Crash**: a repairer that dies leaves DIRTY at 1; the next one starts again.
**Locks**: the caller holds the shard lock. About 0.2 ms a MB (compiled).
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import (
        fence,
        i64,
        load,
        load8,
        lowest_bit,
        memory,
        store,
        store8,
        u64,
        zero,
    )
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        BUCKET_WORDS,
        E_META,
        HAS_DEADLINE,
        KEY_LENGTH_MASK,
        KEY_META_MASK,
        KEY_TYPE_MASK,
        KEY_TYPE_MAX,
        LOW_HALF,
        META_KEY_TYPE_SHIFT,
        META_LENGTH_SHIFT,
        META_VALUE_TYPE_SHIFT,
        S_DIRTY,
        S_ENTRIES,
        S_LIVE_BYTES,
        S_POP_HAND,
        S_REBUILDS,
        S_REPAIRS,
        S_SCAN_HAND,
        S_SEQUENCE,
        S_STAMP,
        S_TOMBSTONES,
        SLOT_MASK,
        TYPE_MASK,
        VALUE_INT,
        VALUE_TOMBSTONE,
        VALUE_TYPE_MAX,
        VERSION_LIMIT,
        VERSION_SUSPECT,
    )
    from shmmap.shard._slots_cy import data_bytes, is_tombstone

COMPILED = cython.compiled


def bytes_of_marks(slots):
    """Count the bytes that have a mark for each slot."""
    return (slots // 8 + 1) * 8


class Repairer:
    """One repair of a shard, or what a check of one begins with."""

    def __init__(self, shard, room=None):
        self.shard = shard
        self.mem = memory(shard.buffer)
        self.marks_bytes = bytes_of_marks(shard.slots.count)
        self.marks_buffer = bytearray(self.marks_bytes) if room is None else room
        self.marks = memory(self.marks_buffer)
        self.entries = 0
        self.tombstones = 0
        self.live_bytes = 0

    def claim_chain(self, head, n):
        """Mark the `n` slots of a chain as its own; False (and none marked): it is broken."""
        slot: u64 = head
        done: u64 = 0
        while done < n:
            if slot == 0 or load8(self.marks, slot) != 0 or (
                not self.shard.slots.in_use(slot)
                or (done and self.shard.slots.version(slot) != 0)
            ):
                self.disown_chain(head, done)
                return False
            store8(self.marks, slot, 1)
            done += 1
            if done < n:
                slot = self.shard.slots.next_of(slot)
        return True

    def disown_chain(self, head, n):
        """Unmark the first `n` slots of a chain."""
        slot: u64 = head
        while n and slot:
            store8(self.marks, slot, 0)
            slot = self.shard.slots.next_of(slot)
            n -= 1

    def chain_end(self, head, n):
        """Return the last of the `n` slots of a whole chain."""
        slot: u64 = head
        step: u64
        for step in range(1, n):
            slot = self.shard.slots.next_of(slot)
        return slot

    def tie_chain(self, head, n):
        """Have the next words of a whole chain of `n` slots say just that."""
        slot: u64 = head
        following: u64
        step: u64
        for step in range(1, n):
            following = self.shard.slots.next_of(slot)
            self.shard.slots.tie(slot, following)
            slot = following
        self.shard.slots.tie(slot, 0)

    def plausible(self, version, meta, length):
        """Tell whether a live head's version, lengths (in all: `length`) and types can be true."""
        kind: u64 = (meta >> META_KEY_TYPE_SHIFT) & KEY_TYPE_MASK
        value_type: u64 = (meta >> META_VALUE_TYPE_SHIFT) & TYPE_MASK
        return (
            version < VERSION_LIMIT
            and 1 <= kind <= KEY_TYPE_MAX
            and (1 <= value_type <= VALUE_TYPE_MAX or (
                value_type == VALUE_TOMBSTONE and meta >> META_LENGTH_SHIFT == 8
                and (meta >> META_KEY_TYPE_SHIFT) & HAS_DEADLINE != 0
            ))
            and length <= self.shard.max_bytes
            and (value_type != VALUE_INT or meta >> META_LENGTH_SHIFT == 8)
        )

    def find_twin(self, hash, slot, meta):
        """Find the index word of another head with the key of `slot`; -1: there is none."""
        length: u64 = meta & KEY_LENGTH_MASK
        bucket: u64 = self.shard.index.home(hash, self.shard.shard_bits)
        step: u64
        mask: u64
        position: i64
        other: u64
        for step in range(self.shard.index.buckets):
            mask = self.shard.index.match(bucket, hash & LOW_HALF)
            while mask:
                position = bucket * BUCKET_WORDS + lowest_bit(mask)
                mask &= mask - 1
                other = self.shard.index.word(position) & SLOT_MASK
                if other == 0 or other > self.shard.slots.count:
                    continue
                if (
                    (self.shard.slots.meta(other) ^ meta) & KEY_META_MASK == 0
                    and self.shard.slots.alike(other, slot, length)
                ):
                    return position
            if not self.shard.index.passed(bucket):
                break
            bucket = self.shard.index.after(bucket)
        return -1

    def is_here(self, hash):
        """Tell whether a hash belongs to this shard: by its top bits."""
        bits: u64 = self.shard.shard_bits
        return bits == 0 or hash >> (64 - bits) == self.shard.number

    def admit(self, slot, meta):
        """Index and count a whole live head, or end it or its older twin."""
        hash: u64 = self.shard.slot_hash(slot, meta)
        tag: u64 = hash & LOW_HALF
        home: u64 = self.shard.index.home(hash, self.shard.shard_bits)
        position: i64 = -1
        other: u64
        if self.shard.index.match(home, tag) or self.shard.index.passed(home):
            position = self.find_twin(hash, slot, meta)
        self.count(meta)
        if not self.is_here(hash):  # a copy from another shard: nobody would look for it here
            self.shard.slots.set_version(slot, 0)
            self.uncount(slot)
            return
        if position >= 0:
            other = self.shard.index.word(position) & SLOT_MASK
            if self.shard.slots.version(other) > self.shard.slots.version(slot):
                other, slot = slot, other
            self.shard.slots.set_version(other, 0)
            fence()
            self.shard.index.put(position, tag, slot)
            self.uncount(other)
            return
        position = self.shard.index.find_room(home)
        if position < 0:  # more live heads than index words: only corruption makes that
            self.shard.slots.set_version(slot, 0)
            self.uncount(slot)
            return
        self.shard.index.mark(home, position)
        self.shard.index.put(position, tag, slot)

    def count(self, meta):
        """Add a live entry to the counts."""
        self.entries += 1
        if is_tombstone(meta):
            self.tombstones += 1
        self.live_bytes += (meta & KEY_LENGTH_MASK) + (meta >> META_LENGTH_SHIFT)

    def uncount(self, slot):
        """Take an entry that was ended from the counts, and its slots from the claimed."""
        meta: u64 = self.shard.slots.meta(slot)
        self.entries -= 1
        if is_tombstone(meta):
            self.tombstones -= 1
        self.live_bytes -= (meta & KEY_LENGTH_MASK) + (meta >> META_LENGTH_SHIFT)
        self.disown_chain(slot, self.shard.slots.needed(data_bytes(meta)))

    def run(self):
        """Repair the shard."""
        sequence: u64 = load(self.mem, S_SEQUENCE) | 1
        rebuilds: u64 = load(self.mem, S_REBUILDS) | 1  # odd: the index is not whole
        newest: u64 = load(self.mem, S_STAMP)
        last: u64 = 0
        slot: u64
        store(self.mem, S_DIRTY, 1)
        store(self.mem, S_SEQUENCE, sequence)
        store(self.mem, S_REBUILDS, rebuilds)
        fence()
        zero(self.marks, 0, self.marks_bytes)
        self.entries = 0
        self.tombstones = 0
        self.live_bytes = 0
        self.shard.index.clear()
        if load(self.mem, S_STAMP) >= VERSION_SUSPECT:
            store(self.mem, S_STAMP, 0)
        if self.shard.evicts:
            self.shard.eviction.reset(self.shard.slots.count)
        for slot in range(1, self.shard.slots.count + 1):
            version: u64 = load(self.mem, self.shard.slots.at(slot))
            if version == 0:
                continue
            if version == newest and not last:  # it may have an older twin, which has to end
                last = slot  # before the index leads here: see _near_cy
            else:
                self.examine(slot)
        if last:
            self.examine(last)
        self.free_the_rest()
        self.shard.expiry.store_base()
        self.shard.expiry.settle()
        store(self.mem, S_ENTRIES, self.entries)
        store(self.mem, S_TOMBSTONES, self.tombstones)
        store(self.mem, S_LIVE_BYTES, self.live_bytes)
        store(self.mem, S_POP_HAND, 0)
        store(self.mem, S_SCAN_HAND, 0)
        store(self.mem, S_REPAIRS, load(self.mem, S_REPAIRS) + 1)
        store(self.mem, S_SEQUENCE, sequence + 1)
        store(self.mem, S_REBUILDS, rebuilds + 1)
        store(self.mem, S_DIRTY, 0)

    def examine(self, slot):
        """Admit a live head if it is whole; end it if it was corrupted."""
        at: u64 = self.shard.slots.at(slot)
        version: u64 = load(self.mem, at)
        meta: u64 = load(self.mem, at + E_META)
        length: u64 = data_bytes(meta)
        need: u64 = self.shard.slots.needed(length)
        if not self.plausible(version, meta, length):
            self.shard.slots.set_version(slot, 0)
            return
        if need == 1 and load8(self.marks, slot) == 0 and self.shard.slots.is_alone(slot):
            store8(self.marks, slot, 1)  # the usual, without two loops
        elif self.claim_chain(slot, need):
            self.tie_chain(slot, need)
        else:
            self.shard.slots.set_version(slot, 0)
            return
        if version >= VERSION_SUSPECT:  # older than any true one; the next ones stay in range
            version = slot << 1
            self.shard.slots.set_version(slot, version)
        if version > load(self.mem, S_STAMP):
            store(self.mem, S_STAMP, version)
        if version & 1:
            self.shard.slots.set_version(slot, self.shard.stamp(self.shard.clock.now()))
        if (meta >> META_KEY_TYPE_SHIFT) & HAS_DEADLINE and not self.set_right(slot, meta):
            self.disown_chain(slot, need)
            self.shard.slots.set_version(slot, 0)
            return
        self.admit(slot, meta)

    def set_right(self, slot, meta):
        """Give a tombstone the deadline of one, and take it from what is none: that has expired.
        False: a tombstone that cannot have one."""
        if not self.shard.expiry.ready():
            return not is_tombstone(meta)
        if is_tombstone(meta):
            self.shard.expiry.bury(slot)
        elif self.shard.expiry.is_buried(slot):
            self.shard.expiry.set(slot, 1)
        return True

    def free_the_rest(self):
        """Rebuild the free list from the slots that no chain claimed; return their number."""
        slot: u64
        meta: u64
        last: u64 = self.shard.slots.count
        ready: bool = self.shard.expiry.ready()
        while last and load8(self.marks, last) == 0 and not ready:
            last -= 1
        self.shard.slots.reset(last + 1, self.shard.slots.count)
        for slot in range(last, 0, -1):
            if load8(self.marks, slot) == 0:
                self.shard.slots.give_one(slot)
            if ready:
                meta = self.shard.slots.meta(slot)
                if self.shard.slots.version(slot) == 0 or (
                    (meta >> META_KEY_TYPE_SHIFT) & HAS_DEADLINE == 0
                ):
                    self.shard.expiry.forget(slot)
        return self.shard.slots.free_slots()

    def repair(self) -> None:
        """Repair the shard, for Python callers that hold its lock."""
        self.run()


_room = bytearray()  # for the marks of every `run` of the compiled engine


def equip(shard: Any) -> Any:
    """Give a shard what repairs it, and return it: while it is held there is no memory for that.

    Compiled, a `run` ends before anything else begins, so that all shards have one room for its
    marks. A room each would be the most of what a process allocates as it opens a map.
    """
    global _room
    served: Shard = shard
    room = None
    if cython.compiled:
        if len(_room) < bytes_of_marks(served.slots.count):
            _room = bytearray(bytes_of_marks(served.slots.count))
        room = _room
    served.repairer = Repairer(served, room)
    return served


def strip(shard: Any) -> None:
    """Take that from a shard that nobody uses any more: the two lead to each other."""
    served: Shard = shard
    served.repairer = None
