# mypy: ignore-errors
"""Look for what is wrong in a shard, without changing it: each with its invariant's number.

**Locks**: the shard lock, or nobody else has the memory.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import (
        i64,
        load,
        load8,
        u64,
        zero,
    )
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        BUCKET_WORDS,
        HAS_DEADLINE,
        KEY_LENGTH_MASK,
        META_KEY_TYPE_SHIFT,
        META_LENGTH_SHIFT,
        S_DEADLINE_BASE,
        S_DIRTY,
        S_EARLIEST_NS,
        S_ENTRIES,
        S_FREE_HEAD,
        S_FREE_SLOTS,
        S_FRESH,
        S_LIVE_BYTES,
        S_SEQUENCE,
        S_STAMP,
        S_TOMBSTONES,
        SLOT_MASK,
    )
    from shmmap.shard._repair_cy import Repairer
    from shmmap.shard._slots_cy import data_bytes, is_tombstone

from shmmap.shard._expiry_cy import is_base_word

COMPILED = cython.compiled


class Checker(Repairer):
    """One check of a shard."""

    def problems(self) -> list[str]:
        """List what is wrong in a shard whose lock is held: each with its invariant's number."""
        shard = self.shard
        slots = shard.slots
        found: list[str] = []
        entries: u64 = 0
        live: u64 = 0
        claimed: u64 = 0
        slot: u64
        self.tombstones = 0
        zero(self.marks, 0, self.marks_bytes)
        for slot in range(1, slots.count + 1):
            version: u64 = slots.version(slot)
            meta: u64 = slots.meta(slot)
            length: u64 = data_bytes(meta)
            need: u64 = slots.needed(length)
            if version == 0:
                if shard.expiry.ready() and shard.expiry.deadline(slot):
                    found.append(f"X1: free slot {slot} has a deadline")
                continue
            if version & 1:
                found.append(f"S1: slot {slot} is still changing in place")
            if version > load(self.mem, S_STAMP):
                found.append(f"S2: slot {slot} has version {version}, above STAMP")
            if not self.plausible(version, meta, length):
                found.append(f"L1: slot {slot} has impossible lengths or types ({meta:#x})")
                continue
            if not self.claim_chain(slot, need):
                found.append(f"L2: the chain of slot {slot} is broken")
                continue
            if slots.next_of(self.chain_end(slot, need)):
                found.append(f"L1: the chain of slot {slot} is longer than its entry")
            if shard.expiry.ready() and shard.expiry.deadline(slot) and (
                (meta >> META_KEY_TYPE_SHIFT) & HAS_DEADLINE == 0
            ):
                found.append(f"X1: slot {slot} has a deadline that its meta word does not tell of")
            if is_tombstone(meta):
                self.tombstones += 1
            if shard.expiry.ready() and is_tombstone(meta) != shard.expiry.is_buried(slot):
                found.append(f"B1: slot {slot} is a tombstone without the deadline of one, or it "
                             "has that and is none")
            entries += 1
            claimed += need
            live += (meta & KEY_LENGTH_MASK) + (meta >> META_LENGTH_SHIFT)
            hash: u64 = shard.slot_hash(slot, meta)
            twin: i64 = self.find_twin(hash, slot, meta)
            if not self.is_here(hash):
                found.append(f"I1: slot {slot} has a key that belongs into another shard")
            if twin < 0:
                found.append(f"I1: slot {slot} is live but the index does not lead to it")
            elif shard.index.word(twin) & SLOT_MASK != slot:
                found.append(f"S3: slot {slot} has the key of slot "
                             f"{shard.index.word(twin) & SLOT_MASK}")
        for slot in range(1, slots.count + 1):
            if slots.in_use(slot) != (load8(self.marks, slot) != 0):
                found.append(f"L4: slot {slot} is{'' if slots.in_use(slot) else ' not'} marked as "
                             "in use")
        found += self.count_problems(entries, live, claimed)
        found += self.index_problems(entries)
        if shard.evicts:
            found += shard.eviction.problems()
        return found

    def count_problems(self, entries, live, claimed):
        """Compare the counts of the header with the slots, and the free list with both."""
        found: list[str] = []
        for number, name, offset, true in (
            ("S4", "ENTRIES", S_ENTRIES, entries),
            ("S4", "LIVE_BYTES", S_LIVE_BYTES, live),
            ("B2", "TOMBSTONES", S_TOMBSTONES, self.tombstones),
            ("L3", "FREE_SLOTS", S_FREE_SLOTS, self.shard.slots.count - claimed),
        ):
            if load(self.mem, offset) != true:
                found.append(f"{number}: {name} is {load(self.mem, offset)}, the slots say {true}")
        if load(self.mem, S_SEQUENCE) & 1 or load(self.mem, S_DIRTY):
            found.append("S5: the shard is in mid-change though its lock was free")
        listed: u64 = 0
        slot: u64 = load(self.mem, S_FRESH)
        if load(self.mem, S_FREE_HEAD) > self.shard.slots.count or (
            slot == 0 or slot > self.shard.slots.count + 1
        ):
            found.append("L3: the free list starts at what is no slot")
        for slot in self.shard.slots.free_list():
            listed += 1
            if load8(self.marks, slot):
                found.append(f"L2: slot {slot} is on the free list and in use")
        if listed != load(self.mem, S_FREE_SLOTS):
            found.append(f"L3: {listed} slots can be taken, FREE_SLOTS differs")
        return found

    def index_problems(self, entries):
        """Compare the index words with the live heads, and the overflow counts with both."""
        found: list[str] = []
        index = self.shard.index
        named: u64 = 0
        position: u64
        slot: u64
        passed = [0] * (index.buckets + 1)  # first as differences: an entry may be far from home
        for position in range(index.buckets * BUCKET_WORDS):
            slot = index.word(position) & SLOT_MASK
            if slot == 0:
                continue
            named += 1
            if slot > self.shard.slots.count or self.shard.slots.version(slot) == 0:
                found.append(f"I1: index word {position} names slot {slot}, which is not live")
                continue
            bucket: u64 = index.home(
                self.shard.slot_hash(slot, self.shard.slots.meta(slot)), self.shard.shard_bits
            )
            passed[bucket] += 1
            passed[position // BUCKET_WORDS] -= 1
            if bucket > position // BUCKET_WORDS:  # it passed the end
                passed[0] += 1
                passed[index.buckets] -= 1
        if named != entries:
            found.append(f"I1: {named} index words for {entries} live entries")
        for bucket in range(1, index.buckets):
            passed[bucket] += passed[bucket - 1]
        for bucket in range(index.buckets):
            if index.overflow(bucket) != passed[bucket] and index.overflow(bucket) != 0xFF:
                found.append(f"I2: bucket {bucket} counts {index.overflow(bucket)} passers, "
                             f"{passed[bucket]} passed")
        earliest: u64 = load(self.mem, S_EARLIEST_NS)
        if not is_base_word(load(self.mem, S_DEADLINE_BASE)):
            found.append("X3: DEADLINE_BASE is damaged")
        elif self.shard.expiry.ready():
            for slot in range(1, self.shard.slots.count + 1):
                deadline: u64 = self.shard.expiry.deadline(slot)
                if self.shard.expiry.is_buried(slot):
                    continue
                if deadline and (earliest == 0 or deadline < earliest):
                    found.append(f"X2: slot {slot} expires before EARLIEST")
        return found
