# mypy: ignore-errors
"""The entries of a shard on their way into other shards, while the shard is being written.

 1  `start` (lock held), `copy_all` (no lock): see `_shadow_cy`
 2  `carry_all` (no lock): what the copy has, into the new shards; marked slots are left for 3
 3  `follow` (lock held): the marked slots: what was carried from there is taken out again, and what
    is there now is carried. As often as need be, and a last time while the whole group is held
 4  `settle_stamps` (all held): a version that a new shard gives out is higher than any before

The new shards are nobody else's so far: nothing of them is locked, and no reader looks. They divide
the entries by the bits of the hash that follow the shard's own; where several shards become one,
each of them is moved into it.

An entry keeps its version, by which a `cas` knows it, and its deadline. Which entry was carried
from a slot is noted apart from the copy, by version, hash and new slot, since the cell may be in
the middle of another entry's chain by then.

**Invariants**
 M1  for each slot that is not marked: the entry that was carried from there is the one that is
     there, or none was and none is
**Crash**: of the mover: new shards that nobody has heard of. Of a writer: as of a snapshot.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import (
        copy_across,
        fence,
        i64,
        load,
        load32,
        lowest_bit,
        new_probe,
        probe_t,
        store,
        store32,
        u64,
        view,
    )
    from shmmap.memory._hash_cy import hash_key
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        E_BYTES_TOTAL,
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
        S_EVICTED,
        S_EXPIRED,
        S_REPAIRS,
        S_STAMP,
        S_TOMBSTONES_LOST,
        TYPE_MASK,
        WHOLE_WORD,
    )
    from shmmap.shard._shadow_cy import ShardCopy
    from shmmap.shard._shard_cy import Shard
    from shmmap.shard._slots_cy import data_bytes, is_tombstone, value_position
    from shmmap.shard._status import CORRUPT, FOUND, FULL, MISS, NO_DEADLINES, TOO_LARGE

from shmmap.memory.layout import PAGE
from shmmap.shard._shadow_cy import copy_bytes_needed

COMPILED = cython.compiled


def move_bytes_needed(slots: int, slot_size: int) -> int:
    """Return the bytes of address space that a move needs: a copy's, 24 a slot for what was
    carried, and room for the largest entry."""
    return copy_bytes_needed(slots, slot_size) + _up(24 * (slots + 1)) + _up(slots * slot_size)


def _up(size: int) -> int:
    return -(-size // PAGE) * PAGE


class ShardMove(ShardCopy):
    """A shard's entries on their way into `targets`, shards of the same seed with clocks that stand
    at 0. `buffer`: private, zeroed, of `move_bytes_needed` bytes. `failed`: the slot that could not
    be carried; `carried`: how many were, again ones too; `expired`: how many were
    not, since their time was over; `dropped`: how many found no room in shards that evict."""

    def __init__(self, source, buffer, clock, liveness, targets):
        ShardCopy.__init__(self, source, buffer, clock, liveness, True)
        self.targets = list(targets)
        self.carried_base = copy_bytes_needed(source.slots.count, source.slots.size)
        self.room_base = self.carried_base + _up(24 * (source.slots.count + 1))
        self.bits = len(self.targets).bit_length() - 1
        self.failed = 0
        self.carried = 0
        self.expired = 0
        self.dropped = 0

    def target_of(self, hash):
        """Return which new shard a hash goes to, by the bits that follow the old shard's."""
        upper: u64 = (hash << self.shard_bits) & WHOLE_WORD
        return upper >> (64 - self.bits) if self.bits else 0

    def carry_all(self, first, limit):
        """Carry what the copy has, of `limit` slots from `first` on, but for what is marked; no
        lock. Return the slot to go on from, 0: done; or a status below 0: see `carry`."""
        slot: u64
        status: i64
        last: u64 = first + limit - 1
        if last > self.slots.count:
            last = self.slots.count
        for slot in range(first, last + 1):
            if self.is_marked(slot):
                continue
            status = self.carry(slot)
            if status < 0:
                self.failed = slot
                return status
        return last + 1 if last < self.slots.count else 0

    def is_marked(self, slot):
        """Tell whether a slot has changed since it was copied. The copy was read before."""
        fence()
        return (load32(self.source.mem, self.source.slots.changed_base + (slot >> 5) * 4)
                >> (slot & 31)) & 1 != 0

    def follow(self, limit):
        """Carry again what has changed, `limit` slots at most. Caller holds the source's lock.

        Returns how many slots that were, or a status below 0: see `carry`; then the slot is marked
        again.
        """
        base: u64 = self.source.slots.changed_base
        at: u64
        marks: u64
        slot: u64
        done: i64 = 0
        status: i64
        budget: u64 = self.source.slots.count  # of continuations: no slot is in two chains
        for at in range((self.source.slots.count >> 5) + 1):
            marks = load32(self.source.mem, base + 4 * at)
            while marks:
                slot = at * 32 + lowest_bit(marks)
                marks &= marks - 1
                if 1 <= slot <= self.source.slots.count:
                    self.forget(slot)
                    budget = self.copy_entry(slot, budget)
                    status = self.carry(slot)
                    if status < 0:
                        self.failed = slot
                        return status
                    done += 1
                store32(self.source.mem, base + 4 * at, marks)
                if done >= limit:
                    return done
        return done

    def forget(self, slot):
        """Take out of the new shards what was carried from a slot, if it is still there."""
        at: u64 = self.carried_base + 24 * slot
        version: u64 = load(self.mem, at)
        hash: u64 = load(self.mem, at + 8)
        there: u64 = load(self.mem, at + 16)
        target: Shard
        if version == 0:
            return
        store(self.mem, at, 0)
        if cython.compiled:  # no test of the type or the bound: nothing in here can raise
            target = cython.cast(Shard, PyList_GET_ITEM(self.targets, self.target_of(hash)))
        else:
            target = self.targets[self.target_of(hash)]
        if target.slots.version(there) == version:
            store(target.mem, S_DIRTY, 1)
            target.remove_slot(there, hash)
            store(target.mem, S_DIRTY, 0)

    def carry(self, slot):
        """Write the entry of a slot of the copy, if there is one, into its new shard: FOUND, MISS,
        or what stands in the way: FULL, TOO_LARGE, CORRUPT, NO_DEADLINES: the new shard's pages for
        them are not reserved yet. An entry that the key had in another slot gives way."""
        version: u64 = self.slots.version(slot)
        meta: u64
        key_length: u64
        kind: u64
        value_length: u64
        deadline: u64 = 0
        length: u64
        at: u64
        hash: u64
        stamp: u64
        status: i64
        target: Shard
        found: probe_t = new_probe()
        if version == 0:
            return MISS
        meta = self.slots.meta(slot)
        if version & 1 or data_bytes(meta) > self.max_bytes:
            return CORRUPT
        key_length = meta & KEY_LENGTH_MASK
        kind = (meta >> META_KEY_TYPE_SHIFT) & KEY_TYPE_MASK
        value_length = meta >> META_LENGTH_SHIFT
        if (meta >> META_KEY_TYPE_SHIFT) & HAS_DEADLINE:
            deadline = (self.kept_until(slot, meta) if is_tombstone(meta)
                        else self.expiry.deadline(slot))
            if deadline <= self.source.clock.now() and (deadline or is_tombstone(meta)):
                # it would take room from others
                self.expired += 1
                return MISS
        length = data_bytes(meta)
        at = self.slots.at(slot) + E_BYTES_TOTAL
        if length > self.slots.size - E_BYTES_TOTAL:
            if not self.gather(slot, length):
                return CORRUPT
            at = self.room_base
        hash = hash_key(view(self.mem, at, key_length), key_length, kind, self.seed)
        if cython.compiled:  # as in `forget`
            target = cython.cast(Shard, PyList_GET_ITEM(self.targets, self.target_of(hash)))
        else:
            target = self.targets[self.target_of(hash)]
        if deadline and not target.expiry.ready():
            return NO_DEADLINES
        status = target.find(hash, kind, view(self.mem, at, key_length), key_length, found)
        if status == CORRUPT:
            return CORRUPT
        stamp = load(target.mem, S_STAMP)
        store(target.mem, S_STAMP, version - 2)  # its clock stands still: the next one is `version`
        status = target.put(
            hash, kind, view(self.mem, at, key_length), key_length,
            (meta >> META_VALUE_TYPE_SHIFT) & (TYPE_MASK | HAS_ORIGIN),
            view(self.mem, at + value_position(meta),
                 value_length + ((meta >> ORIGIN_SHIFT) & ORIGIN_BYTES)), value_length, deadline,
            target.evicts, found,
        )
        if stamp > version or status != FOUND:
            store(target.mem, S_STAMP, stamp)
        if target.evicts and status in (FULL, TOO_LARGE):
            self.dropped += 1  # there is no room for it even where all others are evicted
            return MISS
        if status == FOUND:
            self.carried += 1
            at = self.carried_base + 24 * slot
            store(self.mem, at, version)
            store(self.mem, at + 8, hash)
            store(self.mem, at + 16, found.slot)
        return status

    def gather(self, head, length):
        """Put the bytes of an entry of several slots together, in the room for it; False: its chain
        is not whole. Needs no memory, since a shard may be held."""
        slot: u64 = head
        done: u64 = self.slots.size - E_BYTES_TOTAL
        more: u64
        copy_across(self.mem, self.slots.at(head) + E_BYTES_TOTAL, self.mem, self.room_base, done)
        while done < length:
            slot = self.slots.next_of(slot)
            if slot == 0:
                return False
            more = length - done
            if more > self.slots.size - 8:
                more = self.slots.size - 8
            copy_across(self.mem, self.slots.at(slot) + 8, self.mem, self.room_base + done, more)
            done += more
        return True

    def settle_stamps(self):
        """Have the new shards give out versions above all that the old one has given, and the first
        of them go on with what it has counted. Caller holds the source's lock."""
        target: Shard
        number: u64
        stamp: u64 = load(self.source.mem, S_STAMP)
        one: u64 = 1
        if cython.compiled:  # as in `forget`
            target = cython.cast(Shard, PyList_GET_ITEM(self.targets, 0))
        else:
            target = self.targets[0]
        store(target.mem, S_EXPIRED, load(target.mem, S_EXPIRED) + self.expired)
        add_word(self.source.mem, target.mem, S_EVICTED)
        add_word(self.source.mem, target.mem, S_EXPIRED)
        add_word(self.source.mem, target.mem, S_AGED)
        add_word(self.source.mem, target.mem, S_REPAIRS)
        add_word(self.source.mem, target.mem, S_TOMBSTONES_LOST)
        for number in range(one << self.bits):
            if cython.compiled:  # as in `forget`
                target = cython.cast(Shard, PyList_GET_ITEM(self.targets, number))
            else:
                target = self.targets[number]
            if load(target.mem, S_STAMP) < stamp:
                store(target.mem, S_STAMP, stamp)


def add_word(source, target, offset):
    """Add a word of one header to that of another."""
    store(target, offset, load(target, offset) + load(source, offset))
