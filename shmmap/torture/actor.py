"""Who works in a lane: it calls the map, and writes down when it is inside and for how long."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from ..memory.words import RowWords
from .ledger import (
    CACHE_HOME,
    CALL,
    DELAYED,
    MAIN_HOME,
    NUMBER,
    NUMBER_OF,
    OPERATIONS,
    RAISED,
    SINCE,
    Lane,
    Ledger,
    Notice,
    now_ns,
)
from .maps import Maps
from .plan import KEYS
from .values import Fillings, Identity, Torn, make_value, read_value

if TYPE_CHECKING:
    from ..checks import Key, Value

_NOTICED_NS = 200_000  # operations that take less are not worth remembering
_LONG_NS = 2_000_000  # these are, whether or not they waited for a lock
_WAITS = (RowWords.WAITS.index, RowWords.LOCKED_READS.index, RowWords.RETRIES.index)
_TAKEOVERS = RowWords.TAKEOVERS.index
_ELSEWHERE = frozenset(NUMBER_OF[name] for name in (  # calls that are not of the main map alone
    "scratch", "sweep", "attach", "replacing", "unlinking", "resizing",
))
_CACHE = NUMBER_OF["cache"]
Result = TypeVar("Result")
INTERRUPTED = "the handler of a signal raised this"


class Interrupted(Exception):
    """What the handlers of a signal storm raise into operations."""


class Violation(Exception):
    """The map did what it must not do."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.text = text


def counter_key(lane: int) -> str:
    """Return the key of a counter that only this lane raises."""
    return f"own-count-{lane}"


def own_key(lane: int, key: int) -> Key:
    """Return the key that only this lane writes: each of another type, one longer than a slot."""
    names = (f"lane-{lane}-{key}", f"lane-{lane}-{key}".encode(), 10**6 + lane * 100 + key,
             ("lane", lane, key), f"lane-{lane}-{key}-" + "long" * 60)
    return names[key % len(names)]


class Scheduler:
    """Tells for how long the scheduler has kept this thread from running though it could."""

    def __init__(self) -> None:
        try:
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # a kernel that does not say
            self._file = -1

    def delay_ns(self) -> int:
        """Return how long that was, all in all; 0: the kernel does not say."""
        return int(os.pread(self._file, 64, 0).split()[1]) if self._file >= 0 else 0

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)


class Actor:
    """A lane at work. `fillings` makes the values, `rng` the choices."""

    def __init__(
        self, maps: Maps, ledger: Ledger, lane: Lane, rng: random.Random, fillings: Fillings
    ) -> None:
        self.maps = maps
        self.ledger = ledger
        self.lane = lane
        self.rng = rng
        self.fillings = fillings
        self.names = [own_key(lane.number, key) for key in range(KEYS)]
        self.latest: dict[Key, int] = {}  # the newest operation seen of others' keys
        self.listed_ns = now_ns()
        self.armed = False
        self._scheduler = Scheduler()
        self._attached: Any = None  # what the next two belong to
        self._words: Any = None
        self._row = 0
        self._before = (0, 0)

    # -- calling the map ----------------------------------------------------------------

    def call(self, name: str, function: Callable[..., Result], *arguments: Value) -> Result:
        """Call the map; a handler of a signal may raise Interrupted into it."""
        return self._call(True, name, function, arguments)

    def call_in_peace(
        self, name: str, function: Callable[..., Result], *arguments: Value
    ) -> Result:
        """Call the map; no handler raises."""
        return self._call(False, name, function, arguments)

    def _call(
        self, armed: bool, name: str, function: Callable[..., Result],
        arguments: tuple[Value, ...],
    ) -> Result:
        words = self.lane.words
        outer = words[CALL]
        delayed = words[DELAYED] = self._scheduler.delay_ns()
        began = words[SINCE] = now_ns()
        words[CALL] = number = NUMBER_OF[name]
        try:
            self.armed = armed
            result = function(*arguments)
            self.armed = False
            if number not in _ELSEWHERE:
                self._note_home(number, began)
            return result
        finally:
            self.armed = False
            ended = now_ns()
            words[CALL] = outer
            words[OPERATIONS] += 1
            self._notice(began, ended, number, delayed)

    def _note_home(self, number: int, began: int) -> None:
        """Write down in which map the operation was."""
        home, used = (
            (CACHE_HOME, self.maps.cache) if number == _CACHE else (MAIN_HOME, self.maps.main)
        )
        words = self.lane.words
        words[home] = 0  # the two words are not of one operation from here on
        words[home + 1] = used.attachment.nonce
        words[home] = began

    def on_signal(self, *_: object) -> None:
        """Raise into the operation under way, once."""
        if self.armed:
            self.armed = False
            self.lane.words[RAISED] += 1
            raise Interrupted(INTERRUPTED)

    def expect_signals(self) -> None:
        """Have the handler of SIGALRM raise into operations. Where a finalizer was at work the
        interpreter tells of it, as nothing can be raised there: not here."""
        tell = sys.unraisablehook
        sys.unraisablehook = lambda what: (
            None if isinstance(what.exc_value, Interrupted) else tell(what)
        )
        signal.signal(signal.SIGALRM, self.on_signal)

    def attached(self) -> None:
        """Take a row of the map, if this is a forked child; note where its counters are."""
        len(self.maps.main)
        self._follow()

    def _follow(self) -> None:
        """Note where the counters of the map are that the handle uses now."""
        attachment = self.maps.main.attachment
        with suppress(ValueError):  # another thread has it follow once more
            self._row = attachment.worker.row_offset(attachment.worker.row) >> 3
            self._words = attachment.control.words
            self._before = self._counters()
            self._attached = attachment

    def detach(self) -> None:
        """Forget where the counters are: the map is about to be closed."""
        self._attached = self._words = None

    def _counters(self) -> tuple[int, int]:
        words, row = self._words, self._row
        return sum(words[row + at] for at in _WAITS), words[row + _TAKEOVERS]

    def _notice(self, began: int, ended: int, call: int, delayed: int) -> None:
        if self._words is None:
            return
        followed = waited = self.maps.main.attachment is not self._attached
        took_over = False
        if followed:
            self._follow()
        else:
            before = self._before
            with suppress(ValueError):  # another thread has it follow just now
                self._before = self._counters()
            waited, took_over = self._before != before, self._before[1] != before[1]
        if ended - began > (_NOTICED_NS if waited else _LONG_NS):
            delay = self._scheduler.delay_ns() - delayed
            self.lane.notice(Notice(began, ended, call, waited, took_over, delay, followed))

    # -- values --------------------------------------------------------------------------

    def number(self) -> int:
        """Return the next operation's number; they rise through all lives of a lane."""
        self.lane.words[NUMBER] += 1
        return int(self.lane.words[NUMBER])

    def value(self, key: int, number: int, lengths: tuple[int, ...] = ()) -> Value:
        """Return a value for a key."""
        identity = Identity(self.lane.number, key, number)
        return make_value(identity, self.fillings.cut(self.rng, lengths), self.rng.random() < 0.1)

    def read(self, value: Value, where: str) -> Identity:
        """Return a value's identity."""
        return whole(value, where)

    def expect(self, holds: bool, kind: str, text: str) -> None:
        """Complain unless something holds."""
        if not holds:
            raise Violation(kind, f"lane {self.lane.number}: {text}")

    def expect_own(self, value: Value, key: int) -> int:
        """Return the operation that a value under an own key shows."""
        identity = whole(value, f"{self.names[key]!r:.40}")
        self.expect(identity[:2] == (self.lane.number, key), "torn",
                    f"{self.names[key]!r:.40} holds {identity}")
        return identity.number


def whole(value: Value, where: str) -> Identity:
    """Return a value's identity; complain if it is torn."""
    try:
        return read_value(value)
    except Torn as torn:
        raise Violation("torn", f"{where}: {torn}") from None
