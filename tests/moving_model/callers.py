"""The programs of those who use the map: readers, readers with a near cache, writers; and one who
takes a copy of a shard as a snapshot does. The order of their steps is the real engine's."""

from __future__ import annotations

from .engine import STARTS, Engine, Next, Violation
from .memory import (
    DIRTY,
    FIRST,
    INDEX,
    MARKS,
    NEAR,
    ROUTES,
    SECOND,
    SEQ_SEEN,
    SEQUENCE,
    SHARD,
    SLOT,
    STAMP,
    TRACKING,
    VALUE,
    VERSION,
    State,
    V,
    X,
    key_of,
)


class Callers(Engine):
    """See the module."""

    # -- a reader -------------------------------------------------------------------------------

    def sequence(self, m: State, p: int) -> str:
        """Load SEQUENCE."""
        call = self.begin(m, p)
        segment = m[p + ROUTES + call[1]]
        m[p + SHARD] = segment
        m[p + SEQ_SEEN] = m[self.at[segment] + SEQUENCE]
        return "moved first" if self.looks_first else "index"

    @property
    def looks_first(self) -> bool:
        """Tell whether readers look at MOVED before they read, not after: a mutant."""
        return "a hit looks at MOVED before it reads, not after" in self.mutants

    def moved_first(self, m: State, p: int) -> str:
        """Load MOVED too early."""
        found = m[self.moved_at(m[p + SHARD])]
        return self.follow(m, p, m[p + SHARD], found) if found else "index"

    def index(self, m: State, p: int) -> str:
        """Load the index word."""
        m[p + SLOT] = m[self.at[m[p + SHARD]] + INDEX + self.call_of(m, p)[1]]
        return "version" if m[p + SLOT] else "sequence again"

    def slot_at(self, m: State, p: int) -> int:
        """Return where the slot at hand is."""
        return self.layout.slot(m[p + SHARD], m[p + SLOT])

    def again(self, m: State, p: int) -> str:
        """Begin to read again, or queue for the lock; but first look at MOVED."""
        for word in (SEQ_SEEN, SLOT, VERSION, VALUE):
            m[p + word] = 0
        if "a try that fails does not look at MOVED" in self.mutants:
            return "again"
        return "moved beside a failure?"

    def moved_beside_a_failure(self, m: State, p: int) -> str:
        """Load MOVED: what was met may be the hole."""
        found = m[self.moved_at(m[p + SHARD])]
        return self.follow(m, p, m[p + SHARD], found) if found else "again"

    def version(self, m: State, p: int) -> str:
        """Load the version."""
        m[p + VERSION] = m[self.slot_at(m, p) + V]
        if m[p + VERSION] == 0 or m[p + VERSION] & 1:
            return self.again(m, p)
        return "value"

    def value(self, m: State, p: int) -> str:
        """Load key and value."""
        m[p + VALUE] = m[self.slot_at(m, p) + X]
        if key_of(m[p + VALUE]) != self.call_of(m, p)[1]:
            return self.again(m, p)
        return "version again"

    def version_again(self, m: State, p: int) -> str:
        """Load the version: unchanged?"""
        if m[self.slot_at(m, p) + V] != m[p + VERSION]:
            return self.again(m, p)
        return "index again"

    def index_again(self, m: State, p: int) -> str:
        """Load the index word: unchanged?"""
        if m[self.at[m[p + SHARD]] + INDEX + self.call_of(m, p)[1]] != m[p + SLOT]:
            return self.again(m, p)
        if "a hit does not look at MOVED" in self.mutants or self.looks_first:
            return self.hit(m, p)
        return "moved?"

    def moved(self, m: State, p: int) -> str:
        """Load MOVED: 0 makes it a hit."""
        found = m[self.moved_at(m[p + SHARD])]
        return self.follow(m, p, m[p + SHARD], found) if found else self.hit(m, p)

    def hit(self, m: State, p: int) -> str:
        """Give back what was read, and hold it."""
        if self.call_of(m, p)[0] == "near":
            m[p + NEAR:p + NEAR + 4] = m[p + SHARD], m[p + SLOT], m[p + VERSION], m[p + VALUE]
        return self.end(m, p, m[p + VALUE], m[p + VERSION])

    def sequence_again(self, m: State, p: int) -> str:
        """Load SEQUENCE: even and unchanged?"""
        if m[p + SEQ_SEEN] & 1 or m[self.at[m[p + SHARD]] + SEQUENCE] != m[p + SEQ_SEEN]:
            return self.again(m, p)
        if "a miss does not look at MOVED" in self.mutants:
            return self.end(m, p, 0, 0)
        return "moved beside a miss?"

    def moved_beside_a_miss(self, m: State, p: int) -> str:
        """Load MOVED: 0 makes it a miss."""
        found = m[self.moved_at(m[p + SHARD])]
        return self.follow(m, p, m[p + SHARD], found) if found else self.end(m, p, 0, 0)

    def queue(self, m: State, p: int) -> Next:
        """Exchange OWNER, to read with the lock."""
        return self.take(m, p, m[p + ROUTES + self.call_of(m, p)[1]], "read with the lock")

    def read_with_the_lock(self, m: State, p: int) -> str:
        """Look at MOVED, read; OWNER = 0."""
        segment = m[p + SHARD]
        self.free(m, segment)
        found = m[self.moved_at(segment)]
        if found and "a read with the lock does not look at MOVED" not in self.mutants:
            return self.follow(m, p, segment, found)
        m[p + SLOT] = m[self.at[segment] + INDEX + self.call_of(m, p)[1]]
        if not m[p + SLOT]:
            return self.end(m, p, 0, 0)
        at = self.slot_at(m, p)
        return self.end(m, p, m[at + X], m[at + V])

    # -- a reader that holds an entry -------------------------------------------------------------

    def near_version(self, m: State, p: int) -> str:
        """Load the version of the slot that the held entry came from."""
        self.begin(m, p)
        segment, slot, version, value = m[p + NEAR:p + NEAR + 4]
        if not segment:
            return self.sequence(m, p)
        if "a near cache looks at MOVED before the version" in self.mutants:
            return self.let_go(m, p) if m[self.moved_at(segment)] else "near version after MOVED"
        if m[self.layout.slot(segment, slot) + V] != version:
            return self.let_go(m, p)
        if "a near cache does not look at MOVED" in self.mutants:
            return self.end(m, p, value, version)
        return "near moved?"

    def near_version_after_moved(self, m: State, p: int) -> str:
        """Load the version, once MOVED was 0."""
        segment, slot, version, value = m[p + NEAR:p + NEAR + 4]
        if m[self.layout.slot(segment, slot) + V] != version:
            return self.let_go(m, p)
        return self.end(m, p, value, version)

    def near_moved(self, m: State, p: int) -> str:
        """Load MOVED: 0 makes it a hit."""
        segment, _, version, value = m[p + NEAR:p + NEAR + 4]
        return self.let_go(m, p) if m[self.moved_at(segment)] else self.end(m, p, value, version)

    def let_go(self, m: State, p: int) -> str:
        """Drop the held entry, and read."""
        m[p + NEAR:p + NEAR + 4] = [0] * 4
        return "sequence"

    # -- a writer -------------------------------------------------------------------------------

    def acquire(self, m: State, p: int) -> Next:
        """Exchange OWNER."""
        name, key, _ = self.begin(m, p)
        segment = m[p + ROUTES + key]
        if name == "pop" and self.not_joined(m, p):
            return self.is_all_joined(m, p)
        return self.take(m, p, segment, "track" if name in ("copy", "quit") else "dirty")

    def leave(self, m: State, p: int, result: int) -> str:
        """OWNER = 0, and give back what needed no change."""
        self.free(m, m[p + SHARD])
        return self.end(m, p, result, 0)

    def dirty(self, m: State, p: int) -> str:
        """Look at MOVED, and the entry; DIRTY = 1; or OWNER = 0, where there is nothing to do."""
        segment = m[p + SHARD]
        at = self.at[segment]
        name, key, _ = self.call_of(m, p)
        found = m[self.moved_at(segment)]
        if found and "a writer does not look at MOVED" not in self.mutants:
            self.free(m, segment)
            return self.follow(m, p, segment, found)
        if name == "pop":
            key = next((k for k in range(self.layout.keys) if m[at + INDEX + k]), key)
        m[p + SLOT] = m[at + INDEX + key]
        m[p + FIRST] = 1 + key
        if name in ("delete", "pop"):
            if not m[p + SLOT]:
                return self.leave(m, p, 0)
            m[p + VALUE] = 1 if name == "delete" else m[self.slot_at(m, p) + X]
            m[at + DIRTY] = 1
            return "odd"
        m[at + DIRTY] = 1
        return "in place: stamp" if name == "incr" and m[p + SLOT] else "fill"

    def fill(self, m: State, p: int) -> str:
        """Key and value, into a free slot."""
        slots = range(1, self.layout.slots + 1)
        free = [s for s in slots if not m[self.layout.slot(m[p + SHARD], s) + V]]
        if not free:
            raise Violation("no slot is free, though one is kept in reserve")
        m[p + SECOND] = free[0]
        m[self.layout.slot(m[p + SHARD], m[p + SECOND]) + X] = self.call_of(m, p)[2]
        m[p + VALUE] = self.call_of(m, p)[2]
        return "stamp"

    def stamp(self, m: State, p: int) -> str:
        """STAMP."""
        at = self.at[m[p + SHARD]] + STAMP
        m[at] += 2
        m[p + VERSION] = m[at]
        return "mark" if self.unmarked(m, m[p + SHARD], m[p + SECOND]) else "new version"

    def mark_new(self, m: State, p: int) -> str:
        """Mark the new slot as changed."""
        self.mark(m, m[p + SHARD], m[p + SECOND])
        return "new version"

    def new_version(self, m: State, p: int) -> str:
        """The version of the new slot."""
        m[self.layout.slot(m[p + SHARD], m[p + SECOND]) + V] = m[p + VERSION]
        return "odd"

    def odd(self, m: State, p: int) -> str:
        """SEQUENCE odd."""
        m[self.at[m[p + SHARD]] + SEQUENCE] += 1
        if not m[p + SLOT]:
            return "point"
        return "mark old" if self.unmarked(m, m[p + SHARD], m[p + SLOT]) else "end old"

    def mark_old(self, m: State, p: int) -> str:
        """Mark the old slot as changed."""
        self.mark(m, m[p + SHARD], m[p + SLOT])
        return "end old"

    def end_old(self, m: State, p: int) -> str:
        """The version of the old slot = 0."""
        m[self.slot_at(m, p) + V] = 0
        return "point"

    def point(self, m: State, p: int) -> str:
        """The index word."""
        m[self.at[m[p + SHARD]] + INDEX + m[p + FIRST] - 1] = m[p + SECOND]
        return "even"

    def even(self, m: State, p: int) -> str:
        """SEQUENCE even."""
        m[self.at[m[p + SHARD]] + SEQUENCE] += 1
        return "clean"

    def clean(self, m: State, p: int) -> str:
        """DIRTY = 0."""
        m[self.at[m[p + SHARD]] + DIRTY] = 0
        return "release"

    def release(self, m: State, p: int) -> str:
        """OWNER = 0."""
        self.free(m, m[p + SHARD])
        return self.end(m, p, m[p + VALUE], m[p + VERSION])

    def in_place_stamp(self, m: State, p: int) -> str:
        """STAMP."""
        at = self.at[m[p + SHARD]] + STAMP
        m[at] += 2
        m[p + VERSION] = m[at]
        return "in place: mark" if self.unmarked(m, m[p + SHARD], m[p + SLOT]) else "in place: odd"

    def in_place_mark(self, m: State, p: int) -> str:
        """Mark the slot as changed."""
        self.mark(m, m[p + SHARD], m[p + SLOT])
        return "in place: odd"

    def in_place_odd(self, m: State, p: int) -> str:
        """The version, odd."""
        m[self.slot_at(m, p) + V] |= 1
        return "in place: word"

    def in_place_word(self, m: State, p: int) -> str:
        """The word."""
        m[self.slot_at(m, p) + X] += 1
        m[p + VALUE] = m[self.slot_at(m, p) + X]
        return "in place: even"

    def in_place_even(self, m: State, p: int) -> str:
        """The new version."""
        m[self.slot_at(m, p) + V] = m[p + VERSION]
        return "clean"

    # -- who takes whatever is in a shard that was joined -----------------------------------------

    def not_joined(self, m: State, p: int) -> list[int]:
        """List the keys of the first key's shard for which this process looks elsewhere still."""
        if "a joined shard is emptied before all of it has moved" in self.mutants:
            return []
        segment = m[p + ROUTES]
        generation, number, _ = self.layout.segments[segment]
        return [key for key in range(self.layout.keys) if m[p + ROUTES + key] != segment
                and self.layout.shard_of(generation, key) == number]

    def is_all_joined(self, m: State, p: int) -> str:
        """Load MOVED of the old shard of another key; 0: take its lock, to see to it."""
        key = self.not_joined(m, p)[0]
        m[p + SHARD] = m[p + ROUTES + key]
        if not m[self.moved_at(m[p + SHARD])]:
            return "wait for the joining"
        m[p + ROUTES + key] = m[p + ROUTES]
        return STARTS["pop"]

    def wait_for_the_joining(self, m: State, p: int) -> Next:
        """Exchange OWNER of that old shard."""
        return self.take(m, p, m[p + SHARD], "is joined")

    def is_joined(self, m: State, p: int) -> str:
        """OWNER = 0."""
        self.free(m, m[p + SHARD])
        if not m[self.moved_at(m[p + SHARD])]:
            raise Violation("a lock of a joining was freed halfway")
        m[p + SHARD:p + NEAR] = [0] * (NEAR - SHARD)
        return STARTS["pop"]

    # -- a snapshot of one shard ------------------------------------------------------------------

    def track(self, m: State, p: int) -> str:
        """Look at MOVED; clear the marks; TRACKING = mine."""
        segment = m[p + SHARD]
        found = m[self.moved_at(segment)]
        if found:
            self.free(m, segment)
            return self.follow(m, p, segment, found)
        self.start_tracking(m, p, segment)
        return "tracked"

    def start_tracking(self, m: State, p: int, segment: int) -> None:
        """Clear the marks; TRACKING = mine."""
        at = self.at[segment]
        m[at + MARKS] = 0
        if "TRACKING is a flag, no token" in self.mutants:
            m[at + TRACKING] = 1
        else:
            m[at + TRACKING] = self.layout.token_of[p]

    def tracks(self, m: State, p: int, segment: int) -> bool:
        """Tell whether changes are marked for me still."""
        found = m[self.at[segment] + TRACKING]
        if "TRACKING is a flag, no token" in self.mutants:
            return found != 0
        return found == self.layout.token_of[p]

    def tracked(self, m: State, p: int) -> str:
        """OWNER = 0."""
        self.free(m, m[p + SHARD])
        if self.call_of(m, p)[0] == "quit":
            return "is it mine?"
        m[p + NEAR:p + NEAR + 4] = [0] * 4
        m[p + SLOT] = 1
        return "copy version"

    def is_it_mine(self, m: State, p: int) -> str:
        """Give up. Load TRACKING, without the lock: mine?"""
        return "forget" if self.tracks(m, p, m[p + SHARD]) else self.end(m, p, 0, 0)

    def forget(self, m: State, p: int) -> str:
        """TRACKING = 0, whoever's it is by now."""
        m[self.at[m[p + SHARD]] + TRACKING] = 0
        return self.end(m, p, 0, 0)

    def copy_version(self, m: State, p: int) -> str:
        """Load a slot's version."""
        m[p + NEAR + 2 * m[p + SLOT] - 2] = m[self.slot_at(m, p) + V]
        return "copy value"

    def copy_value(self, m: State, p: int) -> str:
        """Load a slot's value."""
        m[p + NEAR + 2 * m[p + SLOT] - 1] = m[self.slot_at(m, p) + X]
        m[p + SLOT] += 1
        return "copy version" if m[p + SLOT] <= self.layout.slots else "cut a copy"

    def cut_a_copy(self, m: State, p: int) -> Next:
        """Exchange OWNER."""
        return self.take(m, p, m[p + SHARD], "copied")

    def copied(self, m: State, p: int) -> str:
        """Look at MOVED and TRACKING; copy what is marked; TRACKING = 0; OWNER = 0."""
        segment = m[p + SHARD]
        self.free(m, segment)
        found = m[self.moved_at(segment)]
        if found:
            m[p + NEAR:p + NEAR + 4] = [0] * 4
            return self.follow(m, p, segment, found)
        if not self.tracks(m, p, segment):
            m[p + NEAR:p + NEAR + 4] = [0] * 4
            m[p + SHARD:p + NEAR] = [0] * (NEAR - SHARD)
            return "acquire"
        newest = (0, 0)
        for slot in range(1, self.layout.slots + 1):
            at = p + NEAR + 2 * slot - 2
            if m[self.at[segment] + MARKS] >> slot & 1:
                m[at], m[at + 1] = m[self.layout.slot(segment, slot):][:2]
            newest = max(newest, (m[at], m[at + 1]))
        m[self.at[segment] + MARKS] = m[self.at[segment] + TRACKING] = 0
        m[p + NEAR:p + NEAR + 4] = [0] * 4
        return self.end(m, p, newest[1] if newest[0] else 0, newest[0])
