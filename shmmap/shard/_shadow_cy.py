# mypy: ignore-errors
"""A private copy of a shard's entries, kept up with the shard until all shards are still.

 1  `start` (lock held): clear the marks, TRACKING = me. From here on whoever changes
    a version marks its slot
 2  `copy_all` (no lock): the cells, next words and deadlines, as torn as they come
 3  `copy_changed` (lock held): the marked heads again, with their chains; clear the
    marks. As often as need be, and a last time while every shard is held
 4  `settle` (private): index and count what was copied, as a repair does

A slot that 3 does not copy has had its version since before 2, and an entry's
bytes, chain and deadline do not change while it has it: so what 2 copied of it
is whole, and what 2 tore is copied again.

The copy is a shard by itself, laid out compactly: header, next words, cells,
deadlines, index; it grows by pages as it is touched.

**Invariants**
 P1  TRACKING is the token of who copies, or of a dead one, or 0
 P2  under the shard lock, every slot whose version changed since the last
     `copy_changed` (or `start`) is marked
**Crash**: of the copier: marks that nobody reads, until the next copier starts
or a sweep finds TRACKING's token dead. Of a writer: a slot is marked before its
version changes; the repair stores versions the same way.
**Locks**: as said above. Nothing here waits.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import (
        copy_across,
        load,
        load32,
        lowest_bit,
        memory,
        store,
        store32,
        u64,
        zero,
    )
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        BUCKET_BYTES,
        CACHE_LINE,
        S_BYTES_TOTAL,
        S_DIRTY,
        S_ENTRIES,
        S_FRESH,
        S_HAS_DEADLINES,
        S_TRACKING,
    )
    from shmmap.shard._expiry_cy import Expiry
    from shmmap.shard._index_cy import Index
    from shmmap.shard._lock_cy import ShardLock
    from shmmap.shard._repair_cy import Repairer
    from shmmap.shard._shard_cy import Shard
    from shmmap.shard._slots_cy import Slots, data_bytes
    from shmmap.shard._status import DAMAGED, DOUBTFUL, WHOLE

from shmmap.memory.geometry import buckets_for
from shmmap.memory.layout import PAGE

COMPILED = cython.compiled

# what settle gives


def copy_bytes_needed(slots: int, slot_size: int) -> int:
    """Return the bytes of address space that a shard's copy needs, in whole pages."""
    cells = S_BYTES_TOTAL + (4 * (slots + 1) + 7) // 8 * 8 + slots * slot_size + slots * 4
    return -(-(cells + CACHE_LINE + buckets_for(slots) * BUCKET_BYTES) // PAGE) * PAGE


class ShardCopy(Shard):
    """A copy of the shard `source` in private, zeroed memory of `copy_bytes_needed` bytes."""

    def __init__(self, source, buffer, clock, liveness, whole):
        count: u64 = source.slots.count
        size: u64 = source.slots.size
        self.source = source
        self.repairer = None  # nothing mends a copy: see `Holding.mend`
        self.buffer = buffer
        self.mem = memory(buffer)
        shared = buffer if cython.compiled else self.mem  # the pure engine: one memory, one guard
        self.number = source.number
        self.shard_bits = source.shard_bits
        self.seed = source.seed
        self.max_bytes = source.max_bytes
        self.clock = clock
        self.evicts = False
        self.lock = ShardLock(shared, None, liveness)
        cells: u64 = S_BYTES_TOTAL + (4 * (count + 1) + 7) // 8 * 8
        deadlines: u64 = cells + count * size
        self.index_base = (deadlines + count * 4 + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE
        self.slots = Slots(shared, S_BYTES_TOTAL, cells, count, size)
        self.expiry = Expiry(shared, deadlines, count)
        self.expiry.copy_base(source.expiry)
        self.index = Index(shared, self.index_base, 1)
        self.entries = 0
        self.whole = whole  # FRESH is not believed: copy every slot

    def start(self, me):
        """Have changes marked from here on. Caller holds the source's lock."""
        words: u64 = (self.source.slots.count >> 6) + 1
        zero(self.source.mem, self.source.slots.changed_base, words * 8)
        store(self.source.mem, S_TRACKING, me)

    def is_tracked(self, me):
        """Tell whether changes still are marked for us. Caller holds the source's lock."""
        return load(self.source.mem, S_TRACKING) == me

    def used(self):
        """Count the slots that were ever used; all, where that number is damaged."""
        return self.source.slots.count if self.whole else self.source.slots.used()

    def copy_all(self):
        """Copy what there is. No lock; gives how many slots."""
        used: u64 = self.used()
        source: Slots = self.source.slots
        with cython.nogil:
            copy_across(source.mem, source.next_base, self.mem, self.slots.next_base,
                        4 * (used + 1))
            copy_across(source.mem, source.base, self.mem, self.slots.base, used * source.size)
        if self.source.expiry.ready():
            copy_across(source.mem, self.source.expiry.base, self.mem, self.expiry.base, 4 * used)
        return used

    def copy_changed(self, limit):
        """Copy the marked slots again, `limit` heads at most, and clear their marks; return how
        many. Caller holds the source's lock."""
        base: u64 = self.source.slots.changed_base
        at: u64
        marks: u64
        slot: u64
        done: u64 = 0
        budget: u64 = self.source.slots.count  # of continuations: no slot is in two chains
        for at in range((self.source.slots.count >> 5) + 1):
            marks = load32(self.source.mem, base + 4 * at)
            if marks == 0:
                continue
            store32(self.source.mem, base + 4 * at, 0)
            while marks:
                slot = at * 32 + lowest_bit(marks)
                marks &= marks - 1
                if 1 <= slot <= self.source.slots.count:
                    budget = self.copy_entry(slot, budget)
                    done += 1
            if done >= limit:
                break
        return done

    def copy_entry(self, head, budget):
        """Copy a slot, and where it is a live head its chain, of `budget` continuations at most;
        give what is left of that."""
        source: Slots = self.source.slots
        slot: u64 = head
        left: u64 = 0
        self.copy_slot(slot)
        if source.version(head) and data_bytes(source.meta(head)) <= self.max_bytes:
            left = source.needed(data_bytes(source.meta(head))) - 1
        while left and budget:
            slot = source.next_of(slot)
            if slot == 0:
                break
            self.copy_slot(slot)
            left -= 1
            budget -= 1
        return budget

    def copy_slot(self, slot):
        """Copy one slot's cell, next word and deadline."""
        source: Slots = self.source.slots
        copy_across(source.mem, source.at(slot), self.mem, self.slots.at(slot), source.size)
        store32(self.mem, self.slots.next_base + 4 * slot,
                load32(source.mem, source.next_base + 4 * slot))
        if self.source.expiry.ready():
            self.expiry.copy(slot, self.source.expiry)

    def stop(self):
        """Have changes no longer marked; take over what the header says of the entries copied.
        Caller holds the source's lock."""
        self.entries = load(self.source.mem, S_ENTRIES)
        store(self.mem, S_FRESH, self.used())
        store(self.mem, S_HAS_DEADLINES, self.source.expiry.ready())
        store(self.source.mem, S_TRACKING, 0)

    def forget_tracking(self, me):
        """Have changes no longer marked for us. No lock: without marks nobody is misled."""
        if load(self.source.mem, S_TRACKING) == me:
            store(self.source.mem, S_TRACKING, 0)

    def settle(self):
        """Index the copy and let go of the source: WHOLE, DAMAGED, or DOUBTFUL: the header's
        counts are not those of the copied slots, and slots may have been missed.

        A repair of the copy does it: slots are the truth, and what the index leads to is not
        asked.
        """
        used: u64 = load(self.mem, S_FRESH)
        slot: u64
        version: u64
        meta: u64
        length: u64
        heads: u64 = 0
        self.slots.count = used
        self.expiry.count = used
        repairer = Repairer(self)
        self.source = None
        for slot in range(1, used + 1):
            version = self.slots.version(slot)
            if version:
                heads += 1
                meta = self.slots.meta(slot)
                length = data_bytes(meta)
                if not repairer.plausible(version, meta, length) or not repairer.claim_chain(
                    slot, self.slots.needed(length)
                ):
                    return DAMAGED
        self.index.buckets = buckets_for(heads)
        store(self.mem, S_DIRTY, 0)
        repairer.run()
        return WHOLE if self.whole or load(self.mem, S_ENTRIES) == self.entries else DOUBTFUL
