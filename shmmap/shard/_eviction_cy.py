# mypy: ignore-errors
"""Eviction: a clock over the slots behind a probation queue that sizes itself.

    new entry ----> probation queue --(hit meanwhile)--> clock over all slots
                        | oldest, never hit                  | not hit lately
                        v                                    v
                     evicted: remembered as an early or a late ghost

A hit raises the slot's state byte, to 3 at most: one relaxed store. The clock
takes one off as it passes, and evicts at 0. Four-lane buckets of 15-bit
fingerprints remember what was evicted; when an early ghost is asked for again
more often than a late one, relative to how many there were of each, the queue
grows, and shrinks in the other case. An early ghost that comes back goes
straight to the clock.

Readers write the state bytes and nothing else here; a late store of theirs is
one hit too many. The flags (ON_PROBATION, IN_RING) are the lock holder's.

**Invariants**
 E1  a slot is in the ring at most once, and IN_RING tells
 E2  RING_COUNT is at most the number of places
**Crash**: all of it is advice; `repair` empties it.
**Locks**: `hit` needs none; everything else the shard lock. Amortised O(1).
Source: the parts are CLOCK, and the small queue and ghosts of S3-FIFO (Yang et
al., SOSP 2023); the self-sizing follows ARC's idea (Megiddo and Modha, FAST
2003). docs/design/eviction.md has its hit ratios beside LRU, SIEVE and S3-FIFO.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import (
        load,
        load8,
        load16,
        load32,
        memory,
        store,
        store8,
        store16,
        store32,
        u64,
        zero,
    )
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        FREQUENCY_MAX,
        GHOST_LATE,
        GHOST_MASK,
        IN_RING,
        LOW_HALF,
        ON_PROBATION,
        S_ENTRIES,
        S_EVICTED,
        S_GONE_EARLY,
        S_GONE_LATE,
        S_HAND,
        S_MISSED_EARLY,
        S_MISSED_LATE,
        S_RING_COUNT,
        S_RING_START,
        S_RING_TARGET,
        WHOLE_WORD,
    )
    from shmmap.shard._status import EARLY_GHOST, LATE_GHOST, NO_GHOST

from shmmap.memory.layout import ghost_buckets, ring_places

COMPILED = cython.compiled
# The numbers below are the best of a simulation over Zipf 0.6-1.1, scans, loops, drifting
# and recency-heavy loads at 1,000 and 10,000 slots; all of them are flat around the optimum.
# The queue starts long and looks often: starting short, a load that asks for what is recent
# needed some eighty cachefuls of requests to make it long enough, and lost two points to LRU.


class Eviction:
    """The eviction state of one shard (`count` 0: a map that does not evict)."""

    def __init__(self, mem, areas, count, shard_bits):
        self.mem = memory(mem)
        self.ghosts = areas.ghosts
        self.ring = areas.ring
        self.state = areas.state
        self.flag_base = areas.flags
        self.count = count
        self.places = ring_places(count)
        self.ghost_count = ghost_buckets(count)
        self.wide = count >= 65536
        self.shard_bits = shard_bits

    def hit(self, slot):
        """Note a read. No lock: a lost or a late store costs accuracy, nothing else."""
        hits: u64 = load8(self.mem, self.state + slot)
        if hits < FREQUENCY_MAX:
            store8(self.mem, self.state + slot, hits + 1)

    def flags(self, slot):
        """Load a slot's two flags."""
        return (load8(self.mem, self.flag_base + (slot >> 2)) >> ((slot & 3) * 2)) & 3

    def set_flags(self, slot, value):
        """Store a slot's two flags."""
        at: u64 = self.flag_base + (slot >> 2)
        shift: u64 = (slot & 3) * 2
        store8(self.mem, at, (load8(self.mem, at) & ~(3 << shift) & 0xFF) | (value << shift))

    def bump(self, counter):
        """Add one to a word of the header."""
        store(self.mem, counter, load(self.mem, counter) + 1)

    def pop(self):
        """Take the oldest slot off the queue; 0: what is there is no slot."""
        start: u64 = load(self.mem, S_RING_START)
        slot: u64
        if start >= self.places:
            start = 0
        slot = (load32(self.mem, self.ring + 4 * start) if self.wide
                else load16(self.mem, self.ring + 2 * start))
        store(self.mem, S_RING_START, start + 1 if start + 1 < self.places else 0)
        store(self.mem, S_RING_COUNT, load(self.mem, S_RING_COUNT) - 1)
        if slot == 0 or slot > self.count:
            return 0
        self.set_flags(slot, self.flags(slot) & ~IN_RING)
        return slot

    def push(self, slot):
        """Put a slot at the end of the queue."""
        length: u64 = load(self.mem, S_RING_COUNT)
        at: u64 = load(self.mem, S_RING_START) + length
        if length >= self.places:
            return
        if at >= self.places:
            at -= self.places
        if at >= self.places:
            at = 0
        if self.wide:
            store32(self.mem, self.ring + 4 * at, slot)
        else:
            store16(self.mem, self.ring + 2 * at, slot)
        store(self.mem, S_RING_COUNT, length + 1)

    def wanted(self):
        """Return how many entries the queue should hold: its target, or before there is one 40 % of
        the entries; never so many that too few are left for the clock.

        Entries, not slots: where an entry takes several, a queue for slots would hold them all.
        """
        entries: u64 = load(self.mem, S_ENTRIES)
        target: u64 = load(self.mem, S_RING_TARGET)
        most: u64 = entries * 7 // 10
        if target == 0:
            target = entries * 2 // 5
        if target > most:
            target = most
        return target if target else 1

    def place(self, slot, probation):
        """Put a slot in its place: on probation at the end of the queue, or under the clock."""
        flags: u64 = self.flags(slot)
        length: u64
        step: u64
        oldest: u64
        if not probation:
            self.set_flags(slot, flags & ~ON_PROBATION)
            return
        self.set_flags(slot, flags | ON_PROBATION)
        if flags & IN_RING:  # left there by the slot's last entry
            return
        length = self.wanted()
        for step in range(2):
            if load(self.mem, S_RING_COUNT) > length:
                oldest = self.pop()
                if oldest:
                    self.set_flags(oldest, 0)
        if load(self.mem, S_RING_COUNT) < self.places:
            self.push(slot)
            self.set_flags(slot, ON_PROBATION | IN_RING)

    def ghost_at(self, hash):
        """Return the offset of a hash's ghost bucket."""
        upper: u64 = ((hash << self.shard_bits) >> 32) & LOW_HALF
        return self.ghosts + 8 * ((upper * self.ghost_count) >> 32)

    def recall(self, hash):
        """Forget the ghost of a hash; tell whether it was early (1), late (2) or none (0)."""
        at: u64 = self.ghost_at(hash)
        lanes: u64 = load(self.mem, at)
        mark: u64 = (hash & GHOST_MASK) | 1
        shift: u64
        lane: u64
        for shift in range(0, 64, 16):
            lane = (lanes >> shift) & 0xFFFF
            if lane & GHOST_MASK == mark:
                store(self.mem, at, lanes ^ (lane << shift))
                return LATE_GHOST if lane & GHOST_LATE else EARLY_GHOST
        return NO_GHOST

    def adapt(self):
        """After so many evictions, give the queue more room or less."""
        early: u64 = load(self.mem, S_GONE_EARLY)
        late: u64 = load(self.mem, S_GONE_LATE)
        entries: u64 = load(self.mem, S_ENTRIES)
        target: u64
        grow: u64
        shrink: u64
        if 2 * (early + late) < entries or early + late == 0:
            return
        target = self.wanted()
        grow = load(self.mem, S_MISSED_EARLY) * (late + 1)
        shrink = (load(self.mem, S_MISSED_LATE) + 1) * (early + 1)
        if grow > shrink:
            target += target // 7 + 1
        elif grow < shrink:
            target -= target // 8
        if target < entries // 20:
            target = entries // 20
        store(self.mem, S_RING_TARGET, target)
        self.count_anew()

    def count_anew(self):
        """Begin an epoch."""
        store(self.mem, S_GONE_EARLY, 0)
        store(self.mem, S_GONE_LATE, 0)
        store(self.mem, S_MISSED_EARLY, 0)
        store(self.mem, S_MISSED_LATE, 0)

    def inserted(self, slot, hash):
        """Note an entry of a new key."""
        ghost: u64 = self.recall(hash)
        if ghost == EARLY_GHOST:
            self.bump(S_MISSED_EARLY)
        elif ghost == LATE_GHOST:
            self.bump(S_MISSED_LATE)
        self.adapt()
        store8(self.mem, self.state + slot, 0)
        self.place(slot, ghost != EARLY_GHOST)

    def replaced(self, old, new):
        """Note that an entry moves from one slot to another: a write counts as a hit."""
        hits: u64 = load8(self.mem, self.state + old) + 1
        store8(self.mem, self.state + new, hits if hits < FREQUENCY_MAX else FREQUENCY_MAX)
        self.place(new, self.flags(old) & ON_PROBATION)
        self.removed(old)

    def put_back(self, slot):
        """Treat a slot's entry as a new one that was never hit: it is a tombstone now."""
        store8(self.mem, self.state + slot, 0)
        self.place(slot, True)

    def removed(self, slot):
        """Note that a slot's entry is gone. Its place in the queue stays, for the next one."""
        self.set_flags(slot, self.flags(slot) & ~ON_PROBATION)

    def next_victim(self, tries):
        """Take one step; return a slot to evict if it is live, or 0: take another step.

        `tries` counts the steps of one eviction: after two rounds any entry will do.
        """
        length: u64 = load(self.mem, S_RING_COUNT)
        slot: u64
        hits: u64
        if length and length >= self.wanted():
            slot = self.pop()
            if slot == 0 or self.flags(slot) & ON_PROBATION == 0:
                return 0
            if load8(self.mem, self.state + slot):
                self.set_flags(slot, 0)
                return 0
            return slot
        slot = load(self.mem, S_HAND) + 1
        if slot > self.count:
            slot = 1
        store(self.mem, S_HAND, slot)
        if tries < 2 * self.count:
            if self.flags(slot) & ON_PROBATION:
                return 0
            hits = load8(self.mem, self.state + slot)
            if hits:
                store8(self.mem, self.state + slot, hits - 1)
                return 0
        return slot

    def evicted(self, slot, hash):
        """Remember what is about to be evicted, and from where."""
        at: u64 = self.ghost_at(hash)
        lane: u64 = (hash & GHOST_MASK) | 1
        if self.flags(slot) & ON_PROBATION:
            self.bump(S_GONE_EARLY)
        else:
            self.bump(S_GONE_LATE)
            lane |= GHOST_LATE
        store(self.mem, at, ((load(self.mem, at) << 16) & WHOLE_WORD) | lane)

    def reset(self, used):
        """Forget everything: all entries are under the clock, none was hit. Slots behind `used`
        never had one."""
        store(self.mem, S_HAND, 0)
        store(self.mem, S_RING_START, 0)
        store(self.mem, S_RING_COUNT, 0)
        store(self.mem, S_RING_TARGET, 0)
        if used == self.count or load(self.mem, S_EVICTED):  # else there are no ghosts
            zero(self.mem, self.ghosts, 8 * self.ghost_count)
        zero(self.mem, self.state, used + 1)
        zero(self.mem, self.flag_base, used // 4 + 1)
        self.count_anew()

    def problems(self) -> list:
        """List what is wrong in the queue: each with its invariant's number."""
        found: list = []
        length: u64 = load(self.mem, S_RING_COUNT)
        start: u64 = load(self.mem, S_RING_START)
        seen: set = set()
        step: u64
        at: u64
        slot: u64
        if length > self.places or start >= self.places:
            return [f"E2: {length} in the queue from {start} on, it has {self.places} places"]
        for step in range(length):
            at = (start + step) % self.places
            slot = (load32(self.mem, self.ring + 4 * at) if self.wide
                    else load16(self.mem, self.ring + 2 * at))
            if slot == 0 or slot > self.count or slot in seen or self.flags(slot) & IN_RING == 0:
                found.append(f"E1: place {at} of the queue has slot {slot}")
            seen.add(slot)
        for slot in range(1, self.count + 1):
            if self.flags(slot) & IN_RING and slot not in seen:
                found.append(f"E1: slot {slot} is said to be in the queue and is not")
        return found
