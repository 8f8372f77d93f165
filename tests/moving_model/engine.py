"""What all programs share: calls that begin and end, locks, the takeover of a dead process's
lock, repair, and the way from a shard that has moved to the one that has its keys now.

A step is one load, store or exchange of a word that others may look at meanwhile. Words that only
the holder of the lock looks at, or writes, are loaded within the step that follows.
A step returns the name of the next one; None: it cannot be done now.
"""

from __future__ import annotations

from collections.abc import Collection

from .judge import Call, Judge
from .memory import (
    AT,
    CALL,
    CALLED,
    DEAD,
    DIRTY,
    FIRST,
    GLOBALS,
    HISTORY,
    INDEX,
    MARKS,
    MOVED,
    MOVED_TO,
    NAME,
    NEAR,
    NEWEST,
    OWNER,
    PC,
    PRIVATE,
    PROCESS,
    PUBLIC,
    RETURN,
    REUSED,
    ROUTES,
    SEEN,
    SEQUENCE,
    SHARD,
    STAMP,
    TABLE,
    TRACKING,
    Layout,
    State,
    V,
    X,
    key_of,
)

STARTS = {"get": "sequence", "near": "near version", "set": "acquire", "incr": "acquire",
          "delete": "acquire", "pop": "acquire", "copy": "acquire", "quit": "acquire",
          "move": "table"}
Next = str | None


class Violation(Exception):
    """What must not be."""


class Engine:
    """See the module. `mutants`: the faults that are in; `calls`: those of each process."""

    def __init__(self, layout: Layout, calls: list[tuple[Call, ...]], judge: Judge,
                 mutants: Collection[str]) -> None:
        self.layout, self.calls, self.judge, self.mutants = layout, calls, judge, mutants
        self.at = layout.at
        self.numbers: dict[str, int] = {}
        self.names: list[str] = []

    # -- calls ----------------------------------------------------------------------------------

    def call_of(self, m: State, p: int) -> Call:
        """Return the call that a process is at."""
        return self.calls[self.layout.token_of[p] - 1][m[p + CALL]]

    def begin(self, m: State, p: int) -> Call:
        """Begin a call with its first access; again and again is once."""
        call = self.call_of(m, p)
        if not m[p + CALLED]:
            m[p + CALLED] = 1 + m[SEEN + 2 * call[1]]
            known = self.judge.begin(m[HISTORY] << 8 | m[HISTORY + 1],
                                     self.layout.token_of[p], call)
            m[HISTORY], m[HISTORY + 1] = divmod(known, 256)
        return call

    def end(self, m: State, p: int, result: int, version: int) -> str:
        """End a call: judge what it gave back; `version` 0: none."""
        name, key, _ = self.call_of(m, p)
        known = self.judge.end(m[HISTORY] << 8 | m[HISTORY + 1], self.layout.token_of[p], result)
        if known < 0:
            raise Violation(f"no order of all calls explains that {name} gave {result}")
        m[HISTORY], m[HISTORY + 1] = divmod(known, 256)
        seen = SEEN + 2 * key
        if version:
            if version < m[p + CALLED] - 1:
                raise Violation(f"{name} gave version {version} after {m[p + CALLED] - 1}")
            if version == m[seen] and m[seen + 1] != result:
                raise Violation(f"version {version} is that of {m[seen + 1]} and of {result}")
            if version > m[seen]:
                m[seen], m[seen + 1] = version, result
        return self.next_call(m, p)

    def next_call(self, m: State, p: int) -> str:
        """Go to the next call of a process, which forgets what it had at hand."""
        m[p + CALL] += 1
        m[p + CALLED] = 0
        m[p + SHARD:p + NEAR] = [0] * (NEAR - SHARD)
        calls = self.calls[self.layout.token_of[p] - 1]
        if m[p + CALL] < len(calls):
            name, key, _ = calls[m[p + CALL]]
            return STARTS[name] if m[p + ROUTES + key] else "look it up"
        m[p + CALL:p + PROCESS] = [0] * (PROCESS - CALL)
        return "done"

    def is_dead(self, m: State, token: int) -> bool:
        """Judge the owner of a token."""
        return m[GLOBALS + PROCESS * (token - 1) + PC] == DEAD

    def moved_at(self, segment: int) -> int:
        """Return where a shard's MOVED is."""
        if "MOVED lies in a table that is used again" in self.mutants:
            generation, number, _ = self.layout.segments[segment]
            return REUSED + 2 * (generation & 1) + number
        return self.at[segment] + MOVED

    # -- the lock -------------------------------------------------------------------------------

    def take(self, m: State, p: int, segment: int, then: str) -> Next:
        """Exchange OWNER: 0, or a dead owner's, for mine. None: its owner lives. Then go to `then`,
        after what a dead owner left is in order."""
        owner_at = self.at[segment] + OWNER
        owner = m[owner_at]
        if owner and not self.is_dead(m, owner):
            return None
        m[owner_at] = self.layout.token_of[p]
        m[p + SHARD] = segment
        m[p + RETURN] = self.numbers[then]
        if owner and self.layout.siblings(segment) and (
            "who takes over a lock of a joining does not look at the others" not in self.mutants
        ):
            return "look at the joined"
        return self.mend(m, p)

    def mend(self, m: State, p: int) -> str:
        """Repair what is DIRTY, then go on. A shard that has moved is not repaired."""
        if m[self.at[m[p + SHARD]] + DIRTY] and not m[self.moved_at(m[p + SHARD])]:
            return "repair: odd"
        return self.names[m[p + RETURN]]

    def look_at_the_joined(self, m: State, p: int) -> str:
        """Load MOVED of the other old shard of the group."""
        segment = m[p + SHARD]
        found = m[self.moved_at(self.layout.siblings(segment)[0])]
        if found and not m[self.moved_at(segment)]:
            m[p + MOVED_TO] = found
            return "finish the joining"
        return self.mend(m, p)

    def finish_the_joining(self, m: State, p: int) -> str:
        """MOVED = what it is in the other old shard."""
        m[self.moved_at(m[p + SHARD])] = m[p + MOVED_TO]
        return self.mend(m, p)

    def free(self, m: State, segment: int) -> None:
        """OWNER = 0."""
        m[self.at[segment] + OWNER] = 0

    # -- versions -------------------------------------------------------------------------------

    def is_tracked(self, m: State, segment: int) -> bool:
        """Tell whether changes are to be marked."""
        return m[self.at[segment] + TRACKING] != 0

    def mark(self, m: State, segment: int, slot: int) -> None:
        """Mark a slot as changed."""
        m[self.at[segment] + MARKS] |= 1 << slot

    def unmarked(self, m: State, segment: int, slot: int) -> bool:
        """Tell whether a slot is to be marked, and is not yet."""
        marks = m[self.at[segment] + MARKS]
        return self.is_tracked(m, segment) and not marks >> slot & 1

    def live(self, m: State, segment: int, slot: int) -> int:
        """Return the version of a slot that is live and not changing; 0: it is not."""
        version = m[self.layout.slot(segment, slot) + V]
        return 0 if version & 1 else version

    # -- repair ---------------------------------------------------------------------------------

    def repair_odd(self, m: State, p: int) -> str:
        """SEQUENCE odd."""
        at = self.at[m[p + SHARD]]
        m[at + SEQUENCE] |= 1
        m[p + NEWEST] = m[at + STAMP]
        return "repair: clear"

    def repair_clear(self, m: State, p: int) -> str:
        """Empty the index."""
        at = self.at[m[p + SHARD]] + INDEX
        m[at:at + self.layout.keys] = [0] * self.layout.keys
        m[p + AT] = 0
        return self.repair_next(m, p)

    def repair_next(self, m: State, p: int) -> str:
        """Go to the next live slot; the newest comes last."""
        slots = self.layout.slots
        while m[p + AT] < 2 * slots:
            m[p + AT] += 1
            last, slot = divmod(m[p + AT] - 1, slots)
            version = m[self.layout.slot(m[p + SHARD], slot + 1) + V]
            if version and (version == m[p + NEWEST]) == bool(last):
                return "repair: stamp" if version & 1 else self.repair_admit(m, p)
        return "repair: even"

    def repaired(self, m: State, p: int) -> int:
        """Return the slot that is looked at."""
        return (m[p + AT] - 1) % self.layout.slots + 1

    def repair_stamp(self, m: State, p: int) -> str:
        """STAMP: a new version for what was changing in place."""
        m[self.at[m[p + SHARD]] + STAMP] += 2
        self.mark_if_tracked(m, m[p + SHARD], self.repaired(m, p))
        return "repair: version"

    def mark_if_tracked(self, m: State, segment: int, slot: int) -> None:
        """Mark a slot, within the step before."""
        if self.is_tracked(m, segment):
            self.mark(m, segment, slot)

    def repair_version(self, m: State, p: int) -> str:
        """The new version."""
        at = self.layout.slot(m[p + SHARD], self.repaired(m, p)) + V
        m[at] = m[self.at[m[p + SHARD]] + STAMP]
        return self.repair_admit(m, p)

    def repair_admit(self, m: State, p: int) -> str:
        """Index a live slot; where its key has a twin, the older ends first."""
        segment, slot = m[p + SHARD], self.repaired(m, p)
        key = key_of(m[self.layout.slot(segment, slot) + X])
        return "repair: end the older" if m[self.at[segment] + INDEX + key] else "repair: index"

    def repair_end_the_older(self, m: State, p: int) -> str:
        """The older twin's version = 0."""
        segment, slot = m[p + SHARD], self.repaired(m, p)
        key = key_of(m[self.layout.slot(segment, slot) + X])
        twin = m[self.at[segment] + INDEX + key]
        newer = self.live(m, segment, slot) > self.live(m, segment, twin)
        older = twin if newer else slot
        self.mark_if_tracked(m, segment, older)
        m[self.layout.slot(segment, older) + V] = 0
        return "repair: index" if newer else self.repair_next(m, p)

    def repair_index(self, m: State, p: int) -> str:
        """The index word."""
        segment, slot = m[p + SHARD], self.repaired(m, p)
        key = key_of(m[self.layout.slot(segment, slot) + X])
        m[self.at[segment] + INDEX + key] = slot
        return self.repair_next(m, p)

    def repair_even(self, m: State, p: int) -> str:
        """SEQUENCE even."""
        m[self.at[m[p + SHARD]] + SEQUENCE] += 1
        return "repair: clean"

    def repair_clean(self, m: State, p: int) -> str:
        """DIRTY = 0."""
        m[self.at[m[p + SHARD]] + DIRTY] = 0
        m[p + AT] = m[p + NEWEST] = 0
        return self.names[m[p + RETURN]]

    # -- from a shard that has moved to the one that has its keys now -----------------------------

    def follow(self, m: State, p: int, segment: int, found: int) -> str:
        """Go where MOVED, which was found in a segment, leads."""
        m[p + SHARD:p + NEAR] = [0] * (NEAR - SHARD)
        m[p + SHARD] = segment
        m[p + MOVED_TO] = found
        return "open the private name"

    def target(self, m: State, p: int) -> int:
        """Return the segment that MOVED names."""
        generation = self.layout.segments[m[p + SHARD]].generation + 1
        if generation == len(self.layout.shards):
            raise Violation("MOVED is set in a shard of the last generation")
        number = self.layout.shard_of(generation, self.call_of(m, p)[1])
        return self.layout.segment(generation, number, m[p + MOVED_TO])

    def arrive(self, m: State, p: int, segment: int) -> str:
        """Look at this segment from now on, and begin the call again there."""
        name, key, _ = self.call_of(m, p)
        m[p + ROUTES + key] = segment
        if "all routes of a group are renewed at once" in self.mutants:
            generation, number, _ = self.layout.segments[segment]
            for other in range(self.layout.keys):
                if self.layout.shard_of(generation, other) == number:
                    m[p + ROUTES + other] = segment
        m[p + SHARD:p + NEAR] = [0] * (NEAR - SHARD)
        return STARTS[name]

    def open_the_private_name(self, m: State, p: int) -> str:
        """Open the segment by the name with the mover's token."""
        target = self.target(m, p)
        if m[self.at[target] + NAME] == PRIVATE:
            return self.arrive(m, p, target)
        return "open the public name"

    def open_the_public_name(self, m: State, p: int) -> str:
        """It has been renamed: open it by its public name. None: more has moved since."""
        target = self.target(m, p)
        if m[self.at[target] + NAME] == PUBLIC:
            return self.arrive(m, p, target)
        m[p + SHARD] = 0
        return "look it up"

    def look_it_up(self, m: State, p: int) -> str:
        """Load the table."""
        self.begin(m, p)
        m[p + FIRST] = m[TABLE]
        return "open what is current"

    def open_what_is_current(self, m: State, p: int) -> str:
        """Open what the table named; it is gone: look again."""
        key = self.call_of(m, p)[1]
        found = self.layout.public(m, *self.layout.current(m[p + FIRST], key))
        if found:
            return self.arrive(m, p, found)
        return "look it up"

