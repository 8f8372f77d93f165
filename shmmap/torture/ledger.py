"""What every worker did and was about to do, in memory that outlives it.

The parent and all workers share one anonymous mapping. A *lane* is a line of operations, one
after the other: the main thread of a worker, one of its threads, or a child of it. A lane has
keys that nobody else writes. Before a write of one of them it stores what it is about to write
beside what was acknowledged last, then one word that says "under way"; after it returned, one
word that says "acknowledged". So whenever the lane dies, the map must show the one or the other.
"""

from __future__ import annotations

import mmap
import time
from typing import NamedTuple

from .linearizability import rounded_up
from .plan import KEYS

CALLS = (  # what a lane can be inside of
    "nothing", "set", "delete", "add", "replace", "cas", "pop", "setdefault", "touch", "get",
    "get_versioned", "contains", "ttl", "get_many", "set_many", "incr", "claim", "register",
    "cache", "scratch", "list", "sweep", "attach", "history", "verify", "snapshot", "guarded",
    "applied", "edited", "halves", "replacing", "unlinking", "resizing",
)
NUMBER_OF = {name: number for number, name in enumerate(CALLS)}
COUNTERS = 4
REGISTERS = 2
GUARDED = 2  # counters that are read and written in two steps, under named locks
CHANGED = ("applied", "edited", "halves")  # counters that are raised by apply, edit, incr of 0.5
CLAIMS = 64
NOTICES = 512  # long operations that a lane remembers until the parent fetches them
HISTORY = 12  # calls of a lane in one window
HISTORY_WORDS = 11


class Notice(NamedTuple):
    """A long operation. `waited`: for a lock; `took_over`: one whose holder was dead;
    `delay_ns`: for how long the scheduler kept this thread from running meanwhile; `followed`: its
    handle went over to the map that had replaced the one it used."""

    began: int
    ended: int
    call: int
    waited: int
    took_over: int
    delay_ns: int
    followed: int = 0


# words that all share
STOP, WINDOW, CLAIM_NEXT, CLAIM_SETTLED, AIMED, MOMENT, SHARED_WORDS = range(7)
# words of a lane
(
    PID, CALL, SINCE, DELAYED, OPERATIONS, NUMBER, WRITES, RAISED, ATTACHES, FORKS, KILLS,
    KILLS_INSIDE,
    LAST_DEATH, LAST_HELD, HISTORY_WINDOW, HISTORY_COUNT, NOTICED,
    MAIN_HOME, _MAIN_NONCE, CACHE_HOME, _CACHE_NONCE,  # when its last use of a map began, of which
    REPLACED, REFUSED, UNLINKED, BROKEN_OFF,
    RESIZED, CANCELLED, LEFT_HALF_WAY, TOO_SMALL, TAKEN_OVER, _STATES,
) = range(31)
_STATE_WORDS = 7  # which record is acknowledged * 2 + under way; two records of three words
_TALLIES = _STATES + KEYS * _STATE_WORDS  # own counter, counters, registers, guarded, changed:
_CLAIMS = _TALLIES + (1 + COUNTERS + REGISTERS + GUARDED + len(CHANGED)) * 2  # begun, done
_NOTICES = _CLAIMS + CLAIMS
_HISTORY = _NOTICES + NOTICES * len(Notice._fields)
_LANE_WORDS = _HISTORY + HISTORY * HISTORY_WORDS
_SLACK_NS = 60 * 10**9  # how much later than it began a write can have read the clock


def now_ns() -> int:
    """Return nanoseconds by the clock that the map uses."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Record(NamedTuple):
    """What a key should show: the operation that wrote it (0: no entry), and the first and the
    last moment at which its deadline may be (0: it has none)."""

    number: int
    earliest: int = 0
    latest: int = 0

    def may_be_absent(self, until_ns: int) -> bool:
        """Tell whether a look that ended then may have found nothing."""
        return not self.number or (self.earliest != 0 and until_ns >= self.earliest)

    def may_be_there(self, from_ns: int) -> bool:
        """Tell whether a look that began then may have found it."""
        return self.number != 0 and (self.latest == 0 or from_ns <= self.latest)

    def allows(self, found: int, from_ns: int, until_ns: int) -> bool:
        """Tell whether a look between two moments may have found this operation."""
        if not found:
            return self.may_be_absent(until_ns)
        return found == self.number and self.may_be_there(from_ns)


class Lane:
    """One lane's part of the ledger."""

    def __init__(self, number: int, words: memoryview) -> None:
        self.number = number
        self.words = words

    # -- its own keys -----------------------------------------------------------------

    def _record(self, key: int, which: int) -> Record:
        at = _STATES + key * _STATE_WORDS + 1 + 3 * which
        return Record(*self.words[at : at + 3])

    def done(self, key: int) -> Record:
        """Return what was acknowledged last."""
        return self._record(key, self.words[_STATES + key * _STATE_WORDS] >> 1)

    def under_way(self, key: int) -> Record | None:
        """Return what was begun and not acknowledged."""
        state = self.words[_STATES + key * _STATE_WORDS]
        return self._record(key, 1 - (state >> 1)) if state & 1 else None

    def begin(self, key: int, number: int, ttl_ns: int = 0) -> None:
        """Say that a write begins: of operation `number`, or 0, a removal."""
        deadline = rounded_up(now_ns() + ttl_ns) if ttl_ns else 0
        self._begin(key, Record(number, deadline, deadline + _SLACK_NS if ttl_ns else 0))

    def _begin(self, key: int, record: Record) -> None:
        at = _STATES + key * _STATE_WORDS
        state = self.words[at]
        spare = at + 1 + 3 * (1 - (state >> 1))
        for i in range(3):
            self.words[spare + i] = record[i]
        self.words[at] = state | 1

    def finish(self, key: int, ttl_ns: int = 0) -> None:
        """Say that the write under way has returned."""
        at = _STATES + key * _STATE_WORDS
        which = 1 - (self.words[at] >> 1)
        if ttl_ns:
            self.words[at + 3 + 3 * which] = rounded_up(now_ns() + ttl_ns)
        self.words[at] = which << 1
        self.words[WRITES] += 1

    def cancel(self, key: int) -> None:
        """Say that the write under way has changed nothing."""
        self.words[_STATES + key * _STATE_WORDS] &= 2

    def put(self, key: int, record: Record) -> None:
        """Take something else as acknowledged."""
        self._begin(key, record)
        self.words[_STATES + key * _STATE_WORDS] ^= 3

    def judge(self, key: int, found: int, from_ns: int, until_ns: int, last: bool) -> bool:
        """Take note of what a look at a key found; False: that cannot be.

        Unless it was the `last` look, what is under way may still come.
        """
        done, under_way = self.done(key), self.under_way(key)
        fits_done = done.allows(found, from_ns, until_ns)
        if under_way is None:
            return fits_done
        fits_new = under_way.allows(found, from_ns, until_ns)
        if not fits_done and not fits_new:
            return False
        if not fits_done:
            self.finish(key)
        elif last and not fits_new:
            self.cancel(key)
        elif last:
            self.put(key, _either(found, done, under_way))
        return True

    # -- what it shares with others -----------------------------------------------------

    def begin_count(self, which: int) -> None:
        """Say that a counter is about to be raised by one: 0 is its own, then come those that
        all share, the registers, the guarded ones, and the changed ones. What dies under way stays
        begun and not done."""
        self.words[_TALLIES + which * 2] += 1

    def end_count(self, which: int, raised: bool = True) -> None:
        """Say that it was raised, or that it was certainly not."""
        self.words[_TALLIES + which * 2 + raised] += 1 if raised else -1
        self.words[WRITES] += raised

    def counts(self, which: int) -> tuple[int, int]:
        """Return (acknowledged, begun)."""
        at = _TALLIES + which * 2
        return self.words[at + 1], self.words[at]

    def judge_count(self, found: int) -> bool:
        """Take what its own counter shows as acknowledged; False: that cannot be."""
        done, begun = self.counts(0)
        if done <= found <= begun:
            self.words[_TALLIES] = self.words[_TALLIES + 1] = found
            return True
        return False

    def note_claim(self, number: int, state: int) -> None:
        """Say that a claim is under way (1), won (2), or not won (0)."""
        self.words[_CLAIMS + number % CLAIMS] = number << 2 | state

    def claim(self, number: int) -> int:
        """Return the state of a claim."""
        word = self.words[_CLAIMS + number % CLAIMS]
        return int(word & 3) if word >> 2 == number else 0

    # -- what it noticed ------------------------------------------------------------------

    def notice(self, noticed: Notice) -> None:
        """Remember a long operation."""
        index = self.words[NOTICED]
        at = _NOTICES + index % NOTICES * len(noticed)
        for i, word in enumerate(noticed):
            self.words[at + i] = word
        self.words[NOTICED] = index + 1

    def notices(self, since: int) -> tuple[int, list[Notice]]:
        """Return how many were ever noticed, and those after the first `since`."""
        upto, width = self.words[NOTICED], len(Notice._fields)
        starts = [_NOTICES + index % NOTICES * width
                  for index in range(max(since, upto - NOTICES), upto)]
        return upto, [Notice(*self.words[at : at + width]) for at in starts]

    def log(self, entry: tuple[int, ...]) -> int:
        """Write down a call of a history as it begins; return where its end goes."""
        index = self.words[HISTORY_COUNT]
        at: int = _HISTORY + index * HISTORY_WORDS
        for i, word in enumerate(entry):
            self.words[at + i] = word
        self.words[HISTORY_COUNT] = index + 1
        return at

    def history(self) -> list[list[int]]:
        """Return the calls that were written down."""
        at = range(_HISTORY, _HISTORY + self.words[HISTORY_COUNT] * HISTORY_WORDS, HISTORY_WORDS)
        return [self.words[i : i + HISTORY_WORDS].tolist() for i in at]


def _either(found: int, one: Record, other: Record) -> Record:
    """Return a record that allows what two allow, of which a look cannot tell which holds."""
    if not found:
        return Record(0)
    latest = max(one.latest, other.latest) if one.latest and other.latest else 0
    earliest = [record.earliest for record in (one, other) if record.earliest]
    return Record(found, min(earliest, default=0), latest)


class Ledger:
    """The shared memory: `words` for all, and the lanes."""

    def __init__(self, lanes: int) -> None:
        self._buffer = mmap.mmap(-1, (SHARED_WORDS + lanes * _LANE_WORDS) * 8)
        words = memoryview(self._buffer).cast("Q")
        self.words = words[:SHARED_WORDS]
        self.filled = 0  # entries that lie in the map all along
        starts = [SHARED_WORDS + number * _LANE_WORDS for number in range(lanes)]
        self.lanes = [
            Lane(number, words[start : start + _LANE_WORDS]) for number, start in enumerate(starts)
        ]

    def total(self, word: int) -> int:
        """Sum a word over all lanes."""
        return sum(lane.words[word] for lane in self.lanes)
