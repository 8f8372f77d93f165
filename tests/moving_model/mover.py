"""The program of who moves shards to the next generation, a group at a time:

    look    what the table says; open the old shards; remove what dead movers left
    make    the new segments, under names that have this mover's token
    track   the old shards' changes, each under its lock
    copy    entry by entry without the lock, each confirmed as a reader confirms it
    cut     all old locks; still tracked by me? what is marked; STAMP; MOVED in each old shard
    free    the locks, and then what `freeing` has
"""

from __future__ import annotations

from .engine import Next
from .freeing import ADOPTED, Freeing
from .memory import (
    FIRST,
    INDEX,
    MARKS,
    MOVED_TO,
    NAME,
    NAMELESS,
    NEAR,
    PRIVATE,
    REUSED,
    ROUTES,
    SECOND,
    SHARD,
    SLOT,
    SOURCE,
    STAMP,
    TABLE,
    VALUE,
    VERSION,
    State,
    V,
    X,
    key_of,
)


class Mover(Freeing):
    """See the module. `rounds`: 1 to catch up once before the cut."""

    rounds = 0

    # -- look -----------------------------------------------------------------------------------

    def table(self, m: State, p: int) -> str:
        """Load the table."""
        m[p + ROUTES:p + NEAR + 1] = [0] * (NEAR + 1 - ROUTES)
        m[p + SECOND] = m[TABLE]
        if self.turn(m, p).moving:
            return "open old"
        m[p + FIRST] = 1
        return "list names"

    def open_old(self, m: State, p: int) -> str:
        """Open an old shard by its public name; it is gone: look again."""
        current = self.turn(m, p).current
        found = self.layout.public(m, current, self.group(m, p).old[m[p + FIRST]])
        if not found:
            return "table"
        m[p + ROUTES + m[p + FIRST]] = found
        if not self.last_old(m, p):
            return "open old"
        m[p + FIRST] = 1
        return "list names"

    def list_names(self, m: State, p: int) -> str:
        """List the names of segments, and judge who made them."""
        while m[p + FIRST] < self.layout.count:
            what = self.judged(m, p, m[p + FIRST])
            if what:
                return what
            m[p + FIRST] += 1
        m[p + FIRST] = 0
        turn = self.turn(m, p)
        if turn.moving:
            return "make"
        if turn.current == len(self.layout.groups):
            return self.next_call(m, p)
        return "start"

    def judged(self, m: State, p: int, segment: int) -> str:
        """Say what to do with a name: nothing, unlink it, or look whether it was published."""
        turn = self.turn(m, p)
        generation, number, token = self.layout.segments[segment]
        name = m[self.at[segment] + NAME]
        if name == NAMELESS or token == self.layout.token_of[p]:
            return ""
        if generation < turn.current or (generation == turn.current and name == PRIVATE):
            return "remove name"
        if generation != turn.current + 1 or not turn.moving or name != PRIVATE:
            return ""
        groups = self.layout.groups[turn.current]
        which = next(i for i, group in enumerate(groups) if number in group.new)
        if which != turn.cursor:
            return "remove name" if which < turn.cursor else ""
        if "a dead mover's segments are adopted" in self.mutants:
            return ""
        if "what is published is judged before its mover's death" in self.mutants:
            return "judged too late"
        if "a stopped mover's segments are removed" in self.mutants:
            return "was it published?"
        return "was it published?" if self.is_dead(m, token) else ""

    def was_it_published(self, m: State, p: int) -> str:
        """Load MOVED of the group's first old shard: is it the dead one's token?"""
        if m[self.moved_at(m[p + ROUTES])] != self.layout.segments[m[p + FIRST]].token:
            return "remove name"
        m[p + FIRST] += 1
        return "list names"

    def judged_too_late(self, m: State, p: int) -> str:
        """Load MOVED, and only then judge its maker."""
        if m[self.moved_at(m[p + ROUTES])] != self.layout.segments[m[p + FIRST]].token:
            return "judged late"
        m[p + FIRST] += 1
        return "list names"

    def judged_late(self, m: State, p: int) -> str:
        """Judge who made it."""
        if self.is_dead(m, self.layout.segments[m[p + FIRST]].token):
            return "remove name"
        m[p + FIRST] += 1
        return "list names"

    def remove_name(self, m: State, p: int) -> str:
        """Unlink it."""
        segment = m[p + FIRST]
        if m[self.at[segment] + NAME] == PRIVATE:
            self.wipe(m, segment, NAMELESS)
        elif self.layout.segments[segment].generation < self.turn(m, p).current:
            m[self.at[segment] + NAME] = NAMELESS
        m[p + FIRST] += 1
        return "list names"

    def start(self, m: State, p: int) -> str:
        """Exchange the table: the next change begins."""
        if m[TABLE] == m[p + SECOND]:
            m[TABLE] += 1
            row = REUSED + 2 * (self.turn(m, p).current + 1 & 1)
            m[row] = m[row + 1] = 0
        return "table"

    # -- make, track, copy ------------------------------------------------------------------------

    def make(self, m: State, p: int) -> str:
        """Make a new segment, under a private name."""
        new = self.new(m, p, self.mine(m, p))
        if "a dead mover's segments are adopted" in self.mutants and not m[p + FIRST]:
            following = self.turn(m, p).current + 1
            for other in self.layout.named[following, self.group(m, p).new[0]]:
                token = self.layout.segments[other].token
                if m[self.at[other] + NAME] == PRIVATE and self.is_dead(m, token):
                    m[p + ADOPTED] = token
                    return "take to track"
        self.wipe(m, new[m[p + FIRST]], PRIVATE)
        return "take to track" if self.is_last(m, p, len(new)) else "make"

    def take_to_track(self, m: State, p: int) -> Next:
        """Exchange OWNER of an old shard."""
        return self.take(m, p, self.old(m, p)[m[p + FIRST]], "track old")

    def track_old(self, m: State, p: int) -> str:
        """MOVED? clear the marks; TRACKING = mine."""
        segment = m[p + SHARD]
        if m[self.moved_at(segment)]:
            self.free(m, segment)
            return self.help(m, p)
        self.start_tracking(m, p, segment)
        return "tracked old"

    def tracked_old(self, m: State, p: int) -> str:
        """OWNER = 0."""
        self.free(m, m[p + SHARD])
        if not self.last_old(m, p):
            return "take to track"
        if m[p + ADOPTED]:
            return "take to cut"
        m[p + SLOT] = 1
        return "load version"

    def load_version(self, m: State, p: int) -> str:
        """Load a slot's version; 0 or odd: it will be marked, if anything comes of it."""
        m[p + VERSION] = m[self.old_slot(m, p) + V]
        return "load value" if m[p + VERSION] and not m[p + VERSION] & 1 else self.onward(m, p)

    def load_value(self, m: State, p: int) -> str:
        """Load a slot's key and value."""
        m[p + VALUE] = m[self.old_slot(m, p) + X]
        if "what is copied without the lock is not confirmed" in self.mutants:
            self.insert(m, p, m[p + FIRST], m[p + SLOT], m[p + VERSION], m[p + VALUE])
            return self.onward(m, p)
        return "load version again"

    def load_version_again(self, m: State, p: int) -> str:
        """Load its version: unchanged?"""
        if m[self.old_slot(m, p) + V] != m[p + VERSION]:
            return self.onward(m, p)
        if "a copied entry is confirmed without MOVED" in self.mutants:
            self.insert(m, p, m[p + FIRST], m[p + SLOT], m[p + VERSION], m[p + VALUE])
            return self.onward(m, p)
        return "moved beside a copy?"

    def moved_beside_a_copy(self, m: State, p: int) -> str:
        """Load MOVED: 0, and what was read is copied; else there may be a hole in it."""
        if m[self.moved_at(self.old(m, p)[m[p + FIRST]])]:
            return self.help(m, p)
        self.insert(m, p, m[p + FIRST], m[p + SLOT], m[p + VERSION], m[p + VALUE])
        return self.onward(m, p)

    def old_slot(self, m: State, p: int) -> int:
        """Return where the slot is that is copied."""
        return self.layout.slot(self.old(m, p)[m[p + FIRST]], m[p + SLOT])

    def onward(self, m: State, p: int) -> str:
        """Go to the next slot."""
        m[p + VERSION] = m[p + VALUE] = 0
        m[p + SLOT] += 1
        if m[p + SLOT] <= self.layout.slots:
            return "load version"
        m[p + SLOT] = 1
        if not self.last_old(m, p):
            return "load version"
        m[p + SLOT] = 0
        return "take to catch up" if self.rounds else "take to cut"

    def insert(self, m: State, p: int, old: int, slot: int, version: int, value: int) -> None:
        """Put an entry into its new segment, unless that has a newer one of the key; note which
        slot it is from. Nobody else looks there yet."""
        number = self.layout.shard_of(self.turn(m, p).current + 1, key_of(value))
        segment = self.layout.segment(self.turn(m, p).current + 1, number, self.mine(m, p))
        index = self.at[segment] + INDEX + key_of(value)
        if not m[index]:
            slots = range(1, self.layout.slots + 1)
            m[index] = next(s for s in slots if not m[self.layout.slot(segment, s) + V])
        at = self.layout.slot(segment, m[index])
        if m[at + V] < version:
            source = 1 + old * self.layout.slots + slot - 1
            m[at + V], m[at + X], m[at + SOURCE] = version, value, source

    def remove(self, m: State, p: int, old: int, slot: int) -> None:
        """Take what was copied from a slot out of the new segments."""
        for segment in self.new(m, p, self.mine(m, p)):
            for copy in range(1, self.layout.slots + 1):
                at = self.layout.slot(segment, copy)
                if m[at + V] and m[at + SOURCE] == 1 + old * self.layout.slots + slot - 1:
                    m[self.at[segment] + INDEX + key_of(m[at + X])] = 0
                    m[at + V] = m[at + X] = m[at + SOURCE] = 0

    def copy_marked(self, m: State, p: int, old: int) -> None:
        """Bring the new segments up to date with the marked slots of an old shard, under its lock,
        and clear the marks."""
        segment = self.old(m, p)[old]
        for slot in range(1, self.layout.slots + 1):
            if m[self.at[segment] + MARKS] >> slot & 1:
                self.remove(m, p, old, slot)
                if self.live(m, segment, slot):
                    at = self.layout.slot(segment, slot)
                    self.insert(m, p, old, slot, m[at + V], m[at + X])
        m[self.at[segment] + MARKS] = 0

    def take_to_catch_up(self, m: State, p: int) -> Next:
        """Exchange OWNER of an old shard."""
        return self.take(m, p, self.old(m, p)[m[p + FIRST]], "catch up")

    def catch_up(self, m: State, p: int) -> str:
        """MOVED? tracked by me? Copy what is marked, clear the marks; OWNER = 0."""
        segment = m[p + SHARD]
        self.free(m, segment)
        if m[self.moved_at(segment)]:
            return self.help(m, p)
        if not self.tracks(m, p, segment):
            m[p + FIRST] = 0
            return self.anew()
        self.copy_marked(m, p, m[p + FIRST])
        return "take to cut" if self.last_old(m, p) else "take to catch up"

    # -- cut ------------------------------------------------------------------------------------

    def take_to_cut(self, m: State, p: int) -> Next:
        """Exchange OWNER of an old shard, ascending."""
        segment = self.old(m, p)[m[p + FIRST]]
        return self.take(m, p, segment, "cut" if self.last_old(m, p) else "take to cut")

    def cut(self, m: State, p: int) -> str:
        """MOVED? tracked by me? Copy what is marked; STAMP; MOVED of the first old shard = mine."""
        old = self.old(m, p)
        if any(m[self.moved_at(segment)] for segment in old):
            m[p + MOVED_TO] = 1
            return self.let_go_of_one(m, p)
        if not all(self.tracks(m, p, segment) for segment in old) and (
            "TRACKING is not verified at the cut" not in self.mutants
        ):
            return self.let_go_of_one(m, p)
        m[p + MOVED_TO] = self.mine(m, p)
        if "MOVED comes before the last entries" in self.mutants:
            self.raise_stamps(m, p)
            m[self.moved_at(old[0])] = m[p + MOVED_TO]
            return "last entries too late"
        for number in range(len(old)):
            self.copy_marked(m, p, number)
        self.raise_stamps(m, p)
        if "the hole comes before MOVED" in self.mutants:
            return "hole too early"
        m[self.moved_at(old[0])] = m[p + MOVED_TO]
        self.forget_sources(m, p)
        if "the locks are freed before the last MOVED" in self.mutants:
            return "free old"
        return "second moved" if len(old) > 1 else "free old"

    def raise_stamps(self, m: State, p: int) -> None:
        """STAMP of the new shards: at least every old one."""
        stamp = max(m[self.at[segment] + STAMP] for segment in self.old(m, p))
        for segment in self.new(m, p, self.mine(m, p)):
            if "STAMP is only that of the entries" in self.mutants:
                slots = range(1, self.layout.slots + 1)
                stamp = max(m[self.layout.slot(segment, slot) + V] for slot in slots)
            m[self.at[segment] + STAMP] = stamp

    def forget_sources(self, m: State, p: int) -> None:
        """Which slots entries were copied from means nothing from here on."""
        for segment in self.new(m, p, self.mine(m, p)):
            for slot in range(1, self.layout.slots + 1):
                m[self.layout.slot(segment, slot) + SOURCE] = 0

    def last_entries_too_late(self, m: State, p: int) -> str:
        """Copy what is marked, after MOVED."""
        for number in range(len(self.old(m, p))):
            self.copy_marked(m, p, number)
        self.forget_sources(m, p)
        return "second moved" if len(self.old(m, p)) > 1 else "free old"

    def hole_too_early(self, m: State, p: int) -> str:
        """Give pages back before MOVED."""
        self.punch(m, self.old(m, p)[m[p + FIRST]])
        return "moved too late" if self.last_old(m, p) else "hole too early"

    def moved_too_late(self, m: State, p: int) -> str:
        """MOVED of the first old shard = mine."""
        m[self.moved_at(self.old(m, p)[0])] = m[p + MOVED_TO]
        self.forget_sources(m, p)
        return "second moved" if len(self.old(m, p)) > 1 else "free old"

    def second_moved(self, m: State, p: int) -> str:
        """MOVED of the second old shard = mine."""
        m[self.moved_at(self.old(m, p)[1])] = m[p + MOVED_TO]
        if "the locks are freed before the last MOVED" in self.mutants:
            return "hole"
        return "free old"

    def let_go_of_one(self, m: State, p: int) -> str:
        """OWNER = 0 of an old shard: another has moved it, or tracks it."""
        self.free(m, self.old(m, p)[m[p + FIRST]])
        if not self.last_old(m, p):
            return "let go of one"
        return self.help(m, p) if m[p + MOVED_TO] else self.anew()

    def anew(self) -> str:
        """Begin again: with new segments, since nothing tells what in these is old."""
        if "who begins again keeps its copy" in self.mutants:
            return "take to track"
        return "make"
