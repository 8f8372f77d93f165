"""The end of moving a group: after MOVED, by the mover or by whoever finds MOVED set.

    help    throw the own copy away; see to MOVED in all of the group, under the lock
    free    a hole into the old shards; rename the new ones; the table; unlink the old
"""

from __future__ import annotations

from .callers import Callers
from .engine import Next
from .memory import (
    FIRST,
    INDEX,
    MARKS,
    MOVED_TO,
    NAME,
    NAMELESS,
    NEAR,
    PRIVATE,
    PUBLIC,
    ROUTES,
    SECOND,
    SHARD,
    SLOT,
    TABLE,
    Group,
    State,
    Turn,
    V,
    X,
)

ADOPTED = NEAR  # a mutant: the token of a dead mover whose segments this one goes on with


class Freeing(Callers):
    """See the module."""

    def turn(self, m: State, p: int) -> Turn:
        """Return what the table said."""
        return self.layout.turns[m[p + SECOND]]

    def group(self, m: State, p: int) -> Group:
        """Return the group that is being moved."""
        turn = self.turn(m, p)
        return self.layout.groups[turn.current][turn.cursor]

    def old(self, m: State, p: int) -> list[int]:
        """List the old segments."""
        return m[p + ROUTES:p + ROUTES + len(self.group(m, p).old)]

    def new(self, m: State, p: int, token: int) -> list[int]:
        """List the new segments of a mover."""
        following = self.turn(m, p).current + 1
        return [self.layout.segment(following, n, token) for n in self.group(m, p).new]

    def mine(self, m: State, p: int) -> int:
        """Return the token in my segments' names."""
        return m[p + ADOPTED] or self.layout.token_of[p]

    def is_last(self, m: State, p: int, many: int) -> bool:
        """Count FIRST on, up to `many`, then begin anew."""
        m[p + FIRST] = (m[p + FIRST] + 1) % many
        return m[p + FIRST] == 0

    def last_old(self, m: State, p: int) -> bool:
        """Go to the next old shard: was it the last?"""
        return self.is_last(m, p, len(self.group(m, p).old))

    def wipe(self, m: State, segment: int, name: int) -> None:
        """Fill a segment that nobody else looks at with zeros."""
        at = self.at[segment]
        m[at:at + self.layout.segment_words] = [0] * self.layout.segment_words
        m[at + NAME] = name

    # -- free -----------------------------------------------------------------------------------

    def free_old(self, m: State, p: int) -> str:
        """OWNER = 0 of an old shard."""
        self.free(m, self.old(m, p)[m[p + FIRST]])
        if not self.last_old(m, p):
            return "free old"
        if "the locks are freed before the last MOVED" in self.mutants and len(self.old(m, p)) > 1:
            return "second moved"
        return "hole"

    def hole_in_the_index(self, m: State, p: int) -> Next:
        """Give the pages of the index back: zeros."""
        at = self.at[self.old(m, p)[m[p + FIRST]]] + INDEX
        m[at:at + self.layout.keys] = [0] * self.layout.keys
        return self.holed(m, p, 1)

    def hole_in_the_values(self, m: State, p: int) -> Next:
        """Give the pages back on which values go on: zeros."""
        self.zero(m, p, X)
        return self.holed(m, p, 2)

    def hole_in_the_versions(self, m: State, p: int) -> Next:
        """Give the pages back that have the versions: zeros."""
        self.zero(m, p, V)
        return self.holed(m, p, 4)

    def zero(self, m: State, p: int, word: int) -> None:
        """Zero a word of every slot."""
        for slot in range(1, self.layout.slots + 1):
            m[self.layout.slot(self.old(m, p)[m[p + FIRST]], slot) + word] = 0

    def holed(self, m: State, p: int, part: int) -> Next:
        """Note which pages are gone, in whatever order; None: these are already."""
        if m[p + SLOT] & part:
            return None
        m[p + SLOT] |= part
        if m[p + SLOT] != 7:
            return "hole"
        m[p + SLOT] = 0
        segment = self.old(m, p)[m[p + FIRST]]
        m[self.at[segment] + MARKS] = 0
        if "the hole takes the header with it" in self.mutants:
            at = self.at[segment]
            m[at + NAME + 1:at + INDEX] = [0] * (INDEX - NAME - 1)
        return self.after("") if self.last_old(m, p) else "hole"

    def punch(self, m: State, segment: int) -> None:
        """Zeros behind the header, at once: a mutant's."""
        at = self.at[segment]
        m[at + MARKS:at + self.layout.segment_words] = (
            [0] * (self.layout.segment_words - MARKS))

    def after(self, what: str) -> str:
        """Return what comes after a part of freeing."""
        order = ["rename", "table on", "unlink", "table"]
        if "the table goes on before the new shards have their names" in self.mutants:
            order = ["table on", "rename", "unlink", "table"]
        elif "the old is unlinked before the table goes on" in self.mutants:
            order = ["rename", "unlink", "table on", "table"]
        return order[order.index(what) + 1] if what else order[0]

    def rename(self, m: State, p: int) -> str:
        """Give a new segment its public name, unless somebody has."""
        new = self.new(m, p, m[p + MOVED_TO])
        at = self.at[new[m[p + FIRST]]] + NAME
        if m[at] == PRIVATE and "the new shards keep their private names" not in self.mutants:
            m[at] = PUBLIC
        return self.after("rename") if self.is_last(m, p, len(new)) else "rename"

    def cursor(self, m: State, p: int) -> str:
        """Exchange the table: this group is done."""
        if m[TABLE] == m[p + SECOND]:
            m[TABLE] += 1
        elif "the table is stored, not exchanged" in self.mutants:
            m[TABLE] = m[p + SECOND] + 1
        return self.after("table on")

    def unlink(self, m: State, p: int) -> str:
        """Unlink an old segment."""
        m[self.at[self.old(m, p)[m[p + FIRST]]] + NAME] = NAMELESS
        return self.after("unlink") if self.last_old(m, p) else "unlink"

    # -- help -----------------------------------------------------------------------------------

    def help(self, m: State, p: int) -> str:
        """Go on with what another mover published."""
        m[p + FIRST] = m[p + MOVED_TO] = m[p + SLOT] = m[p + ADOPTED] = 0
        return "drop"

    def drop(self, m: State, p: int) -> str:
        """Unlink a segment of my own."""
        new = self.new(m, p, self.layout.token_of[p])
        if m[self.at[new[m[p + FIRST]]] + NAME] == PRIVATE and not self.layout.shared:
            self.wipe(m, new[m[p + FIRST]], NAMELESS)
        return "has it moved?" if self.is_last(m, p, len(new)) else "drop"

    def has_it_moved(self, m: State, p: int) -> str:
        """Load MOVED of an old shard; 0: the mover that published died before it stored it here,
        or is about to: take its lock."""
        found = m[self.moved_at(self.old(m, p)[m[p + FIRST]])]
        if found:
            m[p + MOVED_TO] = found
        elif "who helps does not see to every MOVED" not in self.mutants:
            return "take to help"
        return "hole" if self.last_old(m, p) else "has it moved?"

    def take_to_help(self, m: State, p: int) -> Next:
        """Exchange OWNER of an old shard."""
        return self.take(m, p, self.old(m, p)[m[p + FIRST]], "helped")

    def helped(self, m: State, p: int) -> str:
        """OWNER = 0."""
        self.free(m, m[p + SHARD])
        return "has it moved?"
