# mypy: ignore-errors
"""The slots: fixed cells that hold entries, chained where one is not enough.

    slot            | version | ... size - 8 bytes ...
    head            | version | meta | key bytes, then value bytes ...
    continuation    |    0    | more bytes ...

Slots are numbered from 1. Boundaries never move, so the first word of a slot
is always a version word, and it alone says whether an entry lives there.
`next` holds the chain of a long entry, or the free list; slots from FRESH on
were never used and are on no list.

**Invariants**
 L1  a live head's chain has exactly the slots that its lengths need
 L2  no slot is in two chains, or in a chain and free
 L4  a next word says "in use" just for the slots of chains
 L3  FREE_SLOTS counts the free list and the never used
**Crash**: the free list is derived; `repair` rebuilds it. The next words of a
live chain are written before the head's version, and are truth.
**Locks**: reading needs none (the caller validates the version afterwards and
every step here is bounded); everything else needs the shard lock.
"""

from __future__ import annotations

import sys

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import (
        copy_in,
        copy_out,
        equal,
        load,
        load32,
        memory,
        store,
        store32,
        u64,
        view,
        zero,
    )
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        E_BYTES_TOTAL,
        E_META,
        IN_USE,
        KEY_LENGTH_MASK,
        META_LENGTH_SHIFT,
        META_VALUE_TYPE_SHIFT,
        NEXT_MASK,
        ORIGIN_BYTES,
        ORIGIN_SHIFT,
        S_FREE_HEAD,
        S_FREE_SLOTS,
        S_FRESH,
        S_TRACKING,
        TYPE_MASK,
        VALUE_INT,
        VALUE_TOMBSTONE,
    )

COMPILED = cython.compiled


def value_position(meta):
    """Return where the value starts in an entry's bytes: after the key; aligned for integers."""
    length: u64 = meta & KEY_LENGTH_MASK
    if (meta >> META_VALUE_TYPE_SHIFT) & TYPE_MASK == VALUE_INT:
        return (length + 7) & ~7
    return length


def data_bytes(meta):
    """Count the bytes of an entry's key and value, padding and origin included."""
    return value_position(meta) + (meta >> META_LENGTH_SHIFT) + (
        (meta >> ORIGIN_SHIFT) & ORIGIN_BYTES)


def is_tombstone(meta):
    """Tell whether an entry is a tombstone: what a delete has left of a key."""
    return (meta >> META_VALUE_TYPE_SHIFT) & TYPE_MASK == VALUE_TOMBSTONE


class Slots:
    """The slots of one shard: their cells at `base`, their next words at `next_base`, a bit for
    each that changed at `changed_base`."""

    def __init__(self, mem, next_base, base, count, size, changed_base=0):
        self.mem = memory(mem)
        self.next_base = next_base
        self.base = base
        self.count = count
        self.size = size
        self.changed_base = changed_base

    def at(self, slot):
        """Return the offset of a slot (1 .. count)."""
        return self.base + (slot - 1) * self.size

    def version(self, slot):
        """Load a slot's version word."""
        return load(self.mem, self.at(slot))

    def set_version(self, slot, version):
        """Store a slot's version, and mark the slot where a snapshot is being taken.

        Marked first: whoever dies between the two has marked one slot too many. All stores of
        versions come here. Caller holds the shard lock.
        """
        if load(self.mem, S_TRACKING):
            self.mark(slot)
        store(self.mem, self.base + (slot - 1) * self.size, version)

    def mark(self, slot):
        """Mark a slot as changed. Caller holds the shard lock."""
        at: u64 = self.changed_base + (slot >> 5) * 4
        bit: u64 = 1
        store32(self.mem, at, load32(self.mem, at) | (bit << (slot & 31)))

    def meta(self, slot):
        """Load a head's lengths and types."""
        return load(self.mem, self.at(slot) + E_META)

    def needed(self, data_bytes):
        """Count the slots that so many key and value bytes need."""
        first: u64 = self.size - E_BYTES_TOTAL
        if data_bytes <= first:
            return 1
        return 1 + (data_bytes - first + self.size - 9) // (self.size - 8)

    def free_slots(self):
        """Count the free slots."""
        return load(self.mem, S_FREE_SLOTS)

    def next_of(self, slot):
        """Load a next word; 0 for the last, and for anything out of bounds."""
        slot = load32(self.mem, self.next_base + 4 * slot) & NEXT_MASK
        return slot if slot <= self.count else 0

    def in_use(self, slot):
        """Tell whether a slot is in an entry's chain, so its next word says."""
        return (load32(self.mem, self.next_base + 4 * slot) & IN_USE) != 0

    def is_alone(self, slot):
        """Tell whether a slot is in an entry's chain, and its next word names none."""
        return load32(self.mem, self.next_base + 4 * slot) == IN_USE

    def tie(self, slot, following):
        """Let a slot in use be followed by another (0: by none). Caller holds the shard lock."""
        if load32(self.mem, self.next_base + 4 * slot) != (IN_USE | following):
            store32(self.mem, self.next_base + 4 * slot, IN_USE | following)

    def take(self, n):
        """Take `n` free slots as a chain and return its head; 0: the free list is broken.

        Caller holds the shard lock and has seen that there are enough.
        """
        head: u64 = 0
        last: u64 = 0
        slot: u64 = 0
        left: u64 = n
        free: u64 = load(self.mem, S_FREE_HEAD)
        fresh: u64 = load(self.mem, S_FRESH)
        while left:
            if free:
                slot = free
                if slot > self.count:
                    return 0
                free = self.next_of(slot)
            else:
                slot = fresh
                if slot == 0 or slot > self.count:
                    return 0
                fresh += 1
            if self.version(slot) != 0 or self.in_use(slot):
                return 0
            self.tie(slot, 0)  # at once: a list in a loop must not give it twice
            if last:
                self.tie(last, slot)
            else:
                head = slot
            last = slot
            left -= 1
        store(self.mem, S_FREE_HEAD, free)
        store(self.mem, S_FRESH, fresh)
        store(self.mem, S_FREE_SLOTS, load(self.mem, S_FREE_SLOTS) - n)
        return head

    def give_back(self, head, n):
        """Put a chain of `n` slots on the free list; return how many it really had.

        Caller holds the shard lock and has ended the head's version.
        """
        last: u64 = head
        following: u64 = self.next_of(head) if self.in_use(head) else 0
        had: u64 = 1
        while had < n and following and self.in_use(following):  # else somebody else's: damage
            store32(self.mem, self.next_base + 4 * last, following)
            last = following
            following = self.next_of(last)
            had += 1
        store32(self.mem, self.next_base + 4 * last, load(self.mem, S_FREE_HEAD))
        store(self.mem, S_FREE_HEAD, head)
        store(self.mem, S_FREE_SLOTS, load(self.mem, S_FREE_SLOTS) + had)
        return had

    def used(self):
        """Count the slots that were ever used; all, where that number is damaged."""
        fresh: u64 = load(self.mem, S_FRESH)
        return fresh - 1 if 1 <= fresh <= self.count else self.count

    def reset(self, fresh, last):
        """Forget the free list; slots from `fresh` on count as never used, those behind `last`
        never were.

        Caller holds the shard lock.
        """
        zero(self.mem, self.next_base + 4 * fresh, 4 * (last + 1 - fresh))
        store(self.mem, S_FREE_HEAD, 0)
        store(self.mem, S_FRESH, fresh)
        store(self.mem, S_FREE_SLOTS, self.count + 1 - fresh)

    def give_one(self, slot):
        """Put one slot on the free list. Caller holds the shard lock."""
        store32(self.mem, self.next_base + 4 * slot, load(self.mem, S_FREE_HEAD))
        store(self.mem, S_FREE_HEAD, slot)
        store(self.mem, S_FREE_SLOTS, load(self.mem, S_FREE_SLOTS) + 1)

    def write(self, head, position, source, length):
        """Copy `length` bytes into a chain from byte `position` on; False: the chain is short."""
        slot: u64 = head
        room: u64 = self.size - E_BYTES_TOTAL
        start: u64 = E_BYTES_TOTAL
        done: u64 = 0
        part: u64
        while True:
            if position < room:
                part = room - position
                if part > length - done:
                    part = length - done
                copy_in(self.mem, self.at(slot) + start + position, source, done, part)
                done += part
                position = 0
            else:
                position -= room
            if done == length:
                return True
            slot = self.next_of(slot)
            if slot == 0:
                return False
            room = self.size - 8
            start = 8

    def read(self, head, position, target, length):
        """Copy `length` bytes out of a chain from byte `position` on; False: it is short."""
        slot: u64 = head
        room: u64 = self.size - E_BYTES_TOTAL
        start: u64 = E_BYTES_TOTAL
        done: u64 = 0
        part: u64
        while True:
            if position < room:
                part = room - position
                if part > length - done:
                    part = length - done
                copy_out(self.mem, self.at(slot) + start + position, target, done, part)
                done += part
                position = 0
            else:
                position -= room
            if done == length:
                return True
            slot = self.next_of(slot)
            if slot == 0:
                return False
            room = self.size - 8
            start = 8

    def same(self, head, source, length):
        """Compare a chain's first `length` bytes with those of `source`."""
        slot: u64 = head
        start: u64 = self.base + (head - 1) * self.size + E_BYTES_TOTAL
        room: u64 = self.size - E_BYTES_TOTAL
        done: u64 = 0
        part: u64
        if length <= room:
            return equal(self.mem, start, source, 0, length)
        while True:
            part = room if room < length - done else length - done
            if not equal(self.mem, start, source, done, part):
                return False
            done += part
            if done == length:
                return True
            slot = self.next_of(slot)
            if slot == 0:
                return False
            room = self.size - 8
            start = self.at(slot) + 8

    def alike(self, head, other, length):
        """Compare the first `length` bytes of two chains, where they lie."""
        start: u64 = E_BYTES_TOTAL
        done: u64 = 0
        part: u64
        while True:
            part = self.size - start if self.size - start < length - done else length - done
            if not equal(self.mem, self.at(head) + start,
                         view(self.mem, self.at(other) + start, part), 0, part):
                return False
            done += part
            if done == length:
                return True
            head = self.next_of(head)
            other = self.next_of(other)
            if head == 0 or other == 0:
                return False
            start = 8

    def word(self, head, position):
        """Read the word at byte `position` of a chain, where it may lie across two slots; 0: the
        chain is short."""
        if cython.compiled:
            found: u64 = 0
            self.read(head, position, cython.cast("char*", cython.address(found)), 8)
            return found
        octets = bytearray(8)
        self.read(head, position, octets, 8)
        return int.from_bytes(octets, sys.byteorder)

    def value_offset(self, head, position):
        """Return the offset of byte `position` of a chain; 0: the chain is short."""
        slot: u64 = head
        room: u64 = self.size - E_BYTES_TOTAL
        start: u64 = E_BYTES_TOTAL
        while position >= room:
            position -= room
            slot = self.next_of(slot)
            if slot == 0:
                return 0
            room = self.size - 8
            start = 8
        return self.at(slot) + start + position

    def free_list(self):
        """List the slots that `take` would give, in order, stopping at the first loop and at
        what is no slot."""
        found: list = []
        slot: u64 = load(self.mem, S_FREE_HEAD)
        fresh: u64 = load(self.mem, S_FRESH)
        while slot and slot <= self.count and len(found) <= self.count:
            found.append(slot)
            slot = self.next_of(slot)
        if fresh:
            found.extend(range(fresh, self.count + 1))
        return found
