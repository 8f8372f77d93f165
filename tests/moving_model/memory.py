"""The memory of the model: one byte a word, all in one row, so that a state is a `bytes`.

    globals | a block for each process | a block for each segment | (the judge's own, at the end)

A segment is a shard of one generation, made by one mover: its words are those of a shard's header,
an index word for each key, and its slots. Its name belongs to the system, but lies here too.
A process's block has where it is in its program, and what it keeps in memory of its own.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

State = list[int]  # a state that a step may change; the search keeps it as `bytes`

# -- globals ------------------------------------------------------------------------------------
TABLE = 0  # the word of the generation table: which of `Layout.turns` it is
DEATHS = 1  # deaths that still may happen
HISTORY = 2  # two words: what the judge knows, see `judge`
SEEN = 4  # for each key: the newest version that a call gave back, and its value
REUSED = 8  # a table for "moved", a row of two for every other generation: only a mutant's
GLOBALS = 12

# -- a process ----------------------------------------------------------------------------------
PC = 0  # the step that comes next; DONE, DEAD
CALL = 1  # which of its calls it is at
CALLED = 2  # 0: the call has not begun; else 1 + the key's newest version when it began
ROUTES = 3  # for each key: the segment that this process looks at; 0: none yet
SHARD = 5  # the segment at hand
MOVED_TO = 6  # what a MOVED word said
SEQ_SEEN, SLOT, VERSION, VALUE = 7, 8, 9, 10
FIRST, SECOND = 11, 12  # two counters
RETURN = 13  # the step after an acquisition
AT, NEWEST = 14, 15  # of a repair
NEAR = 16  # four words: a held entry: segment, slot, version, value
PROCESS = 20
DONE, DEAD = 0, 1

# -- a segment ----------------------------------------------------------------------------------
NAME = 0  # what the system calls it: NAMELESS, PRIVATE (its mover's token is in it), or PUBLIC
OWNER, DIRTY, SEQUENCE, STAMP, TRACKING, MOVED, MARKS = 1, 2, 3, 4, 5, 6, 7
INDEX = 8  # a word for each key: its slot; 0: none
NAMELESS, PRIVATE, PUBLIC = 0, 1, 2
SLOT_WORDS = 3
V, X, SOURCE = 0, 1, 2  # version; key and value; of which old slot a mover's copy is
WORDS = ("NAME", "OWNER", "DIRTY", "SEQUENCE", "STAMP", "TRACKING", "MOVED", "MARKS")

SECOND_KEY = 100  # values from here on are those of the second key


def key_of(value: int) -> int:
    """Tell whose a stored word is: a slot's key and value are one word here."""
    return value // SECOND_KEY


class Turn(NamedTuple):
    """What the generation table says: the current generation, whether it is being moved, and
    how many groups have been."""

    current: int
    moving: bool
    cursor: int


class Group(NamedTuple):
    """What moves together: shards of one generation, and those of the next which they become."""

    old: tuple[int, ...]
    new: tuple[int, ...]


class Segment(NamedTuple):
    """Which segment it is: generation, number of the shard, and the token of its maker."""

    generation: int
    number: int
    token: int


def groups_of(shards: int, following: int) -> list[Group]:
    """List the groups of a change of the number of shards."""
    if following >= shards:
        each = following // shards
        return [Group((i,), tuple(range(i * each, (i + 1) * each))) for i in range(shards)]
    each = shards // following
    return [Group(tuple(range(i * each, (i + 1) * each)), (i,)) for i in range(following)]


class Layout:
    """Where everything is.

    `shards`: of each generation, how many shards. `movers`: numbers of the processes that make
    segments. The last process of all, and its segments, are the judge's: they are only there while
    it looks at how a run ended.
    """

    def __init__(self, shards: tuple[int, ...], keys: int, slots: int, processes: int,
                 movers: tuple[int, ...], shared: bool = False) -> None:
        self.shards, self.keys, self.slots = shards, keys, slots
        self.shared = shared  # a mutant: the names of segments have no token
        self.slots_at = INDEX + keys
        self.segment_words = self.slots_at + slots * SLOT_WORDS
        self.groups = [groups_of(*pair) for pair in pairwise(shards)]
        self.turns = [Turn(0, False, 0)]
        for generation, groups in enumerate(self.groups):
            self.turns += [Turn(generation, True, cursor) for cursor in range(len(groups))]
            self.turns.append(Turn(generation + 1, False, 0))
        judge = processes + 1
        tokens = [number + 1 for number in movers]
        self.segments = [Segment(-1, 0, 0)]  # none has number 0
        self.segments += [Segment(0, number, 0) for number in range(shards[0])]
        for token in (*tokens, judge):
            if token == judge:
                self.in_runs = len(self.segments)
            self.segments += [Segment(generation, number, token)
                              for generation in range(1, len(shards))
                              for number in range(shards[generation])]
        self.processes = [GLOBALS + PROCESS * number for number in range(processes)]
        first = GLOBALS + PROCESS * processes
        self.at = [0]
        for number in range(1, len(self.segments)):
            if number == self.in_runs:  # the judge's block comes before its segments
                self.size = first
                self.processes.append(first)
                first += PROCESS
            self.at.append(first)
            first += self.segment_words
        self.whole = first
        self.token_of = {at: number + 1 for number, at in enumerate(self.processes)}
        self.number_of = {segment: i for i, segment in enumerate(self.segments)}
        self.judging(False)

    def judging(self, judging: bool) -> None:
        """Have the judge's own segments count, or not."""
        self.count = len(self.segments) if judging else self.in_runs
        self.named = {
            (generation, number): [
                i for i, segment in enumerate(self.segments[:self.count])
                if segment[:2] == (generation, number)
            ]
            for generation in range(len(self.shards)) for number in range(self.shards[generation])
        }

    def segment(self, generation: int, number: int, token: int) -> int:
        """Return the segment that a mover makes."""
        if self.shared and generation:
            token = self.segments[self.named[generation, number][0]].token
        return self.number_of[Segment(generation, number, token)]

    def shard_of(self, generation: int, key: int) -> int:
        """Tell which shard of a generation has a key."""
        return key if self.shards[generation] > 1 else 0

    def group_of(self, segment: int) -> Group:
        """Return the group that a segment's shard moves with."""
        generation, number, _ = self.segments[segment]
        return next(group for group in self.groups[generation] if number in group.old)

    def siblings(self, segment: int) -> list[int]:
        """List the other old shards that are joined with this one."""
        generation, number, token = self.segments[segment]
        if generation + 1 == len(self.shards):
            return []
        return [self.number_of[Segment(generation, other, token)]
                for other in self.group_of(segment).old if other != number]

    def slot(self, segment: int, slot: int) -> int:
        """Return where a slot is (1 to `slots`)."""
        return self.at[segment] + self.slots_at + (slot - 1) * SLOT_WORDS

    def public(self, m: State, generation: int, number: int) -> int:
        """Open a segment by its public name; 0: there is none."""
        for segment in self.named[generation, number]:
            if m[self.at[segment] + NAME] == PUBLIC:
                return segment
        return 0

    def current(self, m_table: int, key: int) -> tuple[int, int]:
        """Read from the table which generation is current for a key: generation, and number."""
        turn = self.turns[m_table]
        if turn.moving:
            for group in self.groups[turn.current][: turn.cursor]:
                if self.shard_of(turn.current, key) in group.old:
                    return turn.current + 1, self.shard_of(turn.current + 1, key)
        return turn.current, self.shard_of(turn.current, key)

    def word(self, at: int) -> str:
        """Name a word."""
        for segment in range(1, len(self.segments)):
            offset = at - self.at[segment]
            if 0 <= offset < self.segment_words:
                generation, number, token = self.segments[segment]
                name = f"{'ABCDEF'[generation]}{number}" + (f" of mover {token}" if token else "")
                if offset < INDEX:
                    return f"{name} {WORDS[offset]}"
                if offset < self.slots_at:
                    return f"{name} index[{'ab'[offset - INDEX]}]"
                slot, which = divmod(offset - self.slots_at, SLOT_WORDS)
                return f"{name} slot {slot + 1} {('version', 'value', 'source')[which]}"
        if REUSED <= at < GLOBALS:
            return f"table of MOVED, {at - REUSED}"
        return "the table" if at == TABLE else ""
