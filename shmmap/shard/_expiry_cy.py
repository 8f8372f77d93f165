# mypy: ignore-errors
"""Deadlines: a code of 32 bits a slot, contiguous, so that a sweep is a scan of one array.

A deadline is a time in nanoseconds for all others; only here is it a code. 0: there is none. The
others count from DEADLINE_BASE, which a shard's creator stores once, one to two minutes before its
making:

    1 .. FINE         ticks of 1/64 s: 2.06 years
    FINE + 1 .. MIDDLE   seconds: 2.13 years more
    MIDDLE + 1 .. NEVER - 1   of 64 s: 136 years more
    NEVER             later than that

A deadline is rounded up, so nothing expires early. What is past at the base becomes BURIED + 1,
which is past, too: BURIED itself is the code of tombstones. So all readers take one for an entry
that has expired, and the scans for what is due, which begin behind it, do not meet it.

All bases are multiples of 64 s, so all codes stand for multiples of their unit of the clock itself:
a deadline that moves to another shard keeps its time. `last_due` says what is due, for the scans of
codes as for those who compare times.

The pages of the array are reserved when the first deadline is set
(HAS_DEADLINES); until then nothing may touch them. Readers look here only
where an entry's meta word says that it has a deadline.

**Invariants**
 X1  a code is not 0 only for a live head whose meta has HAS_DEADLINE
 X2  EARLIEST is 0 or not later than any deadline but BURIED
 X3  DEADLINE_BASE is as the creator stored it. It has a check in itself: who attaches refuses
     another one, and goes by what it read then; a repair stores it again
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
    from shmmap.memory._atomics import (
        fence,
        first_due,
        least_set,
        load,
        load32,
        memory,
        store,
        store32,
        u64,
        zero,
    )
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        DEADLINE_BASE_LIMIT,
        DEADLINE_BURIED,
        DEADLINE_FINE,
        DEADLINE_MIDDLE,
        DEADLINE_NEVER,
        DEADLINE_TICK_NS,
        LOW_HALF,
        S_DEADLINE_BASE,
        S_EARLIEST_NS,
        S_HAS_DEADLINES,
        VERSION_LIMIT,
    )

COMPILED = cython.compiled


def time_of(base_ns, code):
    """Return the deadline that a code other than 0 stands for."""
    if code <= DEADLINE_FINE:
        return base_ns + code * DEADLINE_TICK_NS
    base_ns += DEADLINE_FINE * DEADLINE_TICK_NS
    if code <= DEADLINE_MIDDLE:
        return base_ns + (code - DEADLINE_FINE) * (DEADLINE_TICK_NS << 6)
    if code >= DEADLINE_NEVER:
        return VERSION_LIMIT - 1
    base_ns += (DEADLINE_MIDDLE - DEADLINE_FINE) * (DEADLINE_TICK_NS << 6)
    return base_ns + (code - DEADLINE_MIDDLE) * (DEADLINE_TICK_NS << 12)


def last_due(base_ns, now_ns):
    """Return the last code whose deadline has passed; 0: none has."""
    past: u64
    if now_ns < base_ns:
        return 0
    past = (now_ns - base_ns) // DEADLINE_TICK_NS
    if past <= DEADLINE_FINE:
        return past
    past = DEADLINE_FINE + (past - DEADLINE_FINE >> 6)
    if past <= DEADLINE_MIDDLE:
        return past
    past = DEADLINE_MIDDLE + (past - DEADLINE_MIDDLE >> 6)
    return past if past < DEADLINE_NEVER else DEADLINE_NEVER - 1


def code_of(base_ns, deadline_ns):
    """Return the code of a deadline: the first one that stands for no earlier time."""
    return last_due(base_ns, deadline_ns - 1) + 1


def base_of(word):
    """Return the time that DEADLINE_BASE says; 0, of what is damaged: what has a deadline has
    expired then."""
    if word & LOW_HALF >= DEADLINE_BASE_LIMIT or word >> 32 != ~word & LOW_HALF:
        return 0
    return (word & LOW_HALF) * (DEADLINE_TICK_NS << 12)


def word_of_base(base_ns):
    """Return the DEADLINE_BASE that says a time."""
    units: u64 = base_ns // (DEADLINE_TICK_NS << 12)
    return (~units & LOW_HALF) << 32 | units


def new_base_word(now_ns: int) -> int:
    """Return the DEADLINE_BASE of a shard that is made now, to Python callers."""
    units = now_ns // (DEADLINE_TICK_NS << 12) - 1
    units = min(max(units, 0), DEADLINE_BASE_LIMIT - 1)
    return word_of_base(units * (DEADLINE_TICK_NS << 12))


def is_base_word(word: int) -> bool:
    """Tell whether a word can be a DEADLINE_BASE, to Python callers."""
    return word_of_base(base_of(word)) == word


class Expiry:
    """The deadlines of one shard, at `base` in its memory."""

    def __init__(self, mem, base, count):
        self.mem = memory(mem)
        self.base = base
        self.count = count
        self.base_ns = base_of(load(self.mem, S_DEADLINE_BASE))

    def copy_base(self, other):
        """Count from where the deadlines of another shard do."""
        self.base_ns = other.base_ns
        self.store_base()

    def store_base(self):
        """Store DEADLINE_BASE, which is damaged or not yet there. Caller holds the shard lock."""
        store(self.mem, S_DEADLINE_BASE, word_of_base(self.base_ns))

    def ready(self):
        """Tell whether the array may be touched."""
        return load(self.mem, S_HAS_DEADLINES) != 0

    def deadline(self, slot):
        """Load a slot's deadline; 0: none."""
        code: u64 = load32(self.mem, self.base + (slot - 1) * 4)
        return time_of(self.base_ns, code) if code else 0

    def set(self, slot, deadline_ns):
        """Store a slot's deadline, and lower EARLIEST to it first. Caller holds the shard lock."""
        code: u64 = code_of(self.base_ns, deadline_ns)
        if code <= DEADLINE_BURIED:
            code = DEADLINE_BURIED + 1
        rounded_ns: u64 = time_of(self.base_ns, code)
        earliest: u64 = load(self.mem, S_EARLIEST_NS)
        if earliest == 0 or rounded_ns < earliest:
            store(self.mem, S_EARLIEST_NS, rounded_ns)
        fence()
        store32(self.mem, self.base + (slot - 1) * 4, code)

    def bury(self, slot):
        """Store the deadline of a tombstone. Caller holds the shard lock."""
        store32(self.mem, self.base + (slot - 1) * 4, DEADLINE_BURIED)

    def is_buried(self, slot):
        """Tell whether a slot has the deadline of a tombstone, or one that is less, which only
        damage leaves."""
        code: u64 = load32(self.mem, self.base + (slot - 1) * 4)
        return 1 <= code <= DEADLINE_BURIED

    def find_buried(self, first):
        """Find the first slot from `first` on with such a deadline; 0: none."""
        if not self.ready() or first == 0 or first > self.count:
            return 0
        left: u64 = self.count - first + 1
        found: u64 = first_due(self.mem, self.base + (first - 1) * 4, left, 1, DEADLINE_BURIED)
        return first + found if found < left else 0

    def forget(self, slot):
        """Clear a slot's deadline. Caller holds the shard lock."""
        fence()
        store32(self.mem, self.base + (slot - 1) * 4, 0)

    def forget_all(self, used):
        """Clear the deadlines of slots 1 to `used`, the last that ever was. Caller holds the
        shard lock."""
        zero(self.mem, self.base, 4 * used)

    def copy(self, slot, source):
        """Take over the deadline that a slot has in the shard that this one is a copy of."""
        store32(self.mem, self.base + (slot - 1) * 4,
                load32(source.mem, source.base + (slot - 1) * 4))

    def due(self, now_ns):
        """Tell whether any deadline may have passed: one load."""
        earliest: u64 = load(self.mem, S_EARLIEST_NS)
        return earliest != 0 and earliest <= now_ns

    def find_due(self, first, now_ns):
        """Find the first slot from `first` on whose deadline has passed; 0: none."""
        if not self.ready() or first > self.count:
            return 0
        left: u64 = self.count - first + 1
        found: u64 = first_due(self.mem, self.base + (first - 1) * 4, left, DEADLINE_BURIED + 1,
                               last_due(self.base_ns, now_ns))
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
            least = least_set(self.mem, self.base, self.count, DEADLINE_BURIED + 1)
        store(self.mem, S_EARLIEST_NS, time_of(self.base_ns, least) if least else 0)
