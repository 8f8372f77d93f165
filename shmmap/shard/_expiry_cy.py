# mypy: ignore-errors
"""Deadlines: one word a slot, contiguous, so that a sweep is a scan of one array.

The pages of the array are reserved when the first deadline is set
(HAS_DEADLINES); until then nothing may touch them. Readers look here only
where an entry's meta word says that it has a deadline.

**Invariants**
 X1  a word is not 0 only for a live head whose meta has HAS_DEADLINE
 X2  EARLIEST is 0 or not later than any word that is not 0
**Crash**: a deadline is stored before its entry's version; `repair` clears
those of slots that did not come to life.
**Locks**: `deadline`, `due` and `count_due` need none; the rest the shard lock.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import first_due, least_set, load, memory, store, u64, zero
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        S_EARLIEST_NS,
        S_HAS_DEADLINES,
    )

COMPILED = cython.compiled


class Expiry:
    """The deadlines of one shard, at `base` in its memory."""

    def __init__(self, mem, base, count):
        self.mem = memory(mem)
        self.base = base
        self.count = count

    def ready(self):
        """Tell whether the array may be touched."""
        return load(self.mem, S_HAS_DEADLINES) != 0

    def deadline(self, slot):
        """Load a slot's deadline; 0: none."""
        return load(self.mem, self.base + (slot - 1) * 8)

    def at(self, slot):
        """Return the offset of a slot's deadline."""
        return self.base + (slot - 1) * 8

    def hasten(self, deadline_ns):
        """Lower EARLIEST to a deadline that is about to be set. Caller holds the shard lock."""
        earliest: u64 = load(self.mem, S_EARLIEST_NS)
        if earliest == 0 or deadline_ns < earliest:
            store(self.mem, S_EARLIEST_NS, deadline_ns)

    def set(self, slot, deadline_ns):
        """Store a slot's deadline. Caller holds the shard lock."""
        self.hasten(deadline_ns)
        store(self.mem, self.at(slot), deadline_ns)

    def forget(self, slot):
        """Clear a slot's deadline. Caller holds the shard lock."""
        store(self.mem, self.base + (slot - 1) * 8, 0)

    def forget_all(self, used):
        """Clear the deadlines of slots 1 to `used`, the last that ever was. Caller holds the
        shard lock."""
        zero(self.mem, self.base, 8 * used)

    def due(self, now_ns):
        """Tell whether any deadline may have passed: one load."""
        earliest: u64 = load(self.mem, S_EARLIEST_NS)
        return earliest != 0 and earliest <= now_ns

    def find_due(self, first, now_ns):
        """Find the first slot from `first` on whose deadline has passed; 0: none."""
        if not self.ready() or first > self.count:
            return 0
        left: u64 = self.count - first + 1
        found: u64 = first_due(self.mem, self.base + (first - 1) * 8, left, now_ns)
        return first + found if found < left else 0

    def count_due(self, now_ns):
        """Count the slots whose deadline has passed."""
        found: u64 = 0
        slot: u64 = 0
        if self.due(now_ns):
            slot = self.find_due(1, now_ns)
        while slot:
            found += 1
            slot = self.find_due(slot + 1, now_ns)
        return found

    def settle(self):
        """Set EARLIEST to the least deadline there is. Caller holds the shard lock."""
        least: u64 = 0
        if self.ready():
            least = least_set(self.mem, self.base, self.count)
        store(self.mem, S_EARLIEST_NS, least)
