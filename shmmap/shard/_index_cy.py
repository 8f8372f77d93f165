# mypy: ignore-errors
"""The index: from a hash to the slot of an entry's head.

Buckets of one cache line hold eight words, `tag 32 | overflow 8 | slot 24`.
An entry lives in its home bucket, or, where that is full, in the next one with
room. The first word of a bucket counts the entries that passed over it
(saturating): a probe ends at the first bucket that nobody passed.

**Invariants** (the shard's `check()` reports them by number)
 I1  every live head is named by exactly one word, reachable from its home
 I2  a bucket's overflow count is the number of entries that passed over it
**Crash**: derived from the slots; `repair` clears and refills it.
**Locks**: readers take none; everything that stores needs the shard lock.
Source: overflow counts instead of tombstones: Bronson and Shi, F14, 2019.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import load, lowest_bit, match_tag, memory, store, u64, zero
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        BUCKET_BYTES,
        BUCKET_WORDS,
        LOW_HALF,
        OVERFLOW_MASK,
        OVERFLOW_MAX,
        OVERFLOW_SHIFT,
        SLOT_MASK,
        TAG_SHIFT,
        WORD_MASK,
    )

COMPILED = cython.compiled


class Index:
    """The index of one shard, at `base` in its memory."""

    def __init__(self, mem, base, buckets):
        self.mem = memory(mem)
        self.base = base
        self.buckets = buckets

    def home(self, hash, shard_bits):
        """Return the bucket where a hash belongs: by the 32 bits below those that chose the shard.

        Source: D. Lemire, 'Fast random integer generation in an interval', 2019.
        """
        upper: u64 = (hash << shard_bits) >> 32
        return ((upper & LOW_HALF) * self.buckets) >> 32

    def match(self, bucket, tag):
        """Tell which words of a bucket carry the tag: a bit each (empty words included)."""
        return match_tag(self.mem, self.base + bucket * BUCKET_BYTES, tag)

    def passed(self, bucket):
        """Tell whether any entry passed over this bucket."""
        return (load(self.mem, self.base + bucket * BUCKET_BYTES) & OVERFLOW_MASK) != 0

    def overflow(self, bucket):
        """Load a bucket's count of passers."""
        word: u64 = load(self.mem, self.base + bucket * BUCKET_BYTES)
        return (word & OVERFLOW_MASK) >> OVERFLOW_SHIFT

    def after(self, bucket):
        """Return the bucket that a probe looks at next."""
        bucket += 1
        return 0 if bucket >= self.buckets else bucket

    def word(self, position):
        """Load word `position` without its overflow count."""
        return load(self.mem, self.base + position * 8) & WORD_MASK

    def find_room(self, home):
        """Find the first empty word from bucket `home` on; -1: the index is full."""
        bucket: u64 = home
        step: u64
        mask: u64
        position: u64
        for step in range(self.buckets):
            mask = match_tag(self.mem, self.base + bucket * BUCKET_BYTES, 0)  # empty words too
            while mask:
                position = bucket * BUCKET_WORDS + lowest_bit(mask)
                if load(self.mem, self.base + position * 8) & SLOT_MASK == 0:
                    return position
                mask &= mask - 1
            bucket = self.after(bucket)
        return -1

    def mark(self, home, position):
        """Count one more entry that passes from `home` to the bucket of `position`."""
        bucket: u64 = home
        last: u64 = position // BUCKET_WORDS
        word: u64
        while bucket != last:
            word = load(self.mem, self.base + bucket * BUCKET_BYTES)
            if word & OVERFLOW_MASK != OVERFLOW_MASK:
                store(self.mem, self.base + bucket * BUCKET_BYTES, word + (1 << OVERFLOW_SHIFT))
            bucket = self.after(bucket)

    def unmark(self, home, position):
        """Count one entry less. A saturated count stays: it no longer knows."""
        bucket: u64 = home
        last: u64 = position // BUCKET_WORDS
        word: u64
        count: u64
        while bucket != last:
            word = load(self.mem, self.base + bucket * BUCKET_BYTES)
            count = (word & OVERFLOW_MASK) >> OVERFLOW_SHIFT
            if count != 0 and count != OVERFLOW_MAX:
                store(self.mem, self.base + bucket * BUCKET_BYTES, word - (1 << OVERFLOW_SHIFT))
            bucket = self.after(bucket)

    def put(self, position, tag, slot):
        """Make word `position` name `slot` (0: nothing). This store is what readers see."""
        at: u64 = self.base + position * 8
        count: u64 = load(self.mem, at) & OVERFLOW_MASK
        store(self.mem, at, (tag << TAG_SHIFT) | count | slot if slot else count)

    def clear(self):
        """Empty every word and count."""
        zero(self.mem, self.base, self.buckets * BUCKET_BYTES)
