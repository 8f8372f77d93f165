"""Mirror: from an old cache to a new one, under load, with a proof that they are equal.

    1  the old side does the operation, and what it returns or raises is the caller's
    2  a write is made on the new side, too, aside: its caller waits for `deadline` at most
    3  of the reads a sample is compared, aside: both sides are asked, and asked again where they
       differ, since a write may be under way; what still differs is a difference, and repaired
    4  once the gate "mirror" of the map is switched on, reads are answered by the new side, in
       every process at once; where that fails, is late or has nothing, by the old one, which is
       still written
    5  the old side is taken out of the program

So the old side alone decides what a caller gets until 4, and stands by afterwards. A write that the
new side has missed leaves its keys *stale*: this process reads them from the old side, and brings
them over as soon as the new side answers again. Another process may read what the new side had
before until then: so switch when nothing was missed for long, `is_proven`.

Two processes that write one key at once may write the two sides in different orders. A comparison
finds that, and repairs it.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import Lock
from typing import Any, Literal, NamedTuple, NoReturn

from . import sides
from .breaker import Aside, Breaker, Late
from .checks import Key, Value, seconds, shown
from .errors import ShmMapError
from .map import ShmMap
from .sides import Outcome
from .system.process import this_process

LAST = 100  # differences that are kept
AGAIN = 3  # looks at two values that differ
AGAIN_S = 0.05
_STALE = 10_000  # keys of writes that were not made; more: nobody knows which
_COUNTS = ("reads", "writes", "compared", "differences", "repaired", "failed", "late", "skipped")


class Difference(NamedTuple):
    """One key that the two sides had different values of. The digests are of the values' pickles;
    "missing": there was none. `when`: time.time()."""

    when: float
    operation: str
    key: Key
    old: str
    new: str


class MirrorReport(NamedTuple):
    """How a mirror stands, of all processes that share it; `last`: of this one.

    Attributes:
        reads, writes: operations.
        compared: reads and results of writes that were compared.
        differences: those that differed, also after a while.
        repaired: of these, how many the new side was corrected in.
        failed: calls of the new side that raised.
        late: those that took longer than the deadline.
        skipped: those that were not made, since the breaker was open.
        equal_for: seconds since the last difference, failure, late or skipped write, or since the
            first comparison.
        reads_new: whether the new side answers.
        is_open: whether this process asks the new side nothing just now.
        last: the last 100 differences.
    """

    reads: int
    writes: int
    compared: int
    differences: int
    repaired: int
    failed: int
    late: int
    skipped: int
    equal_for: float
    reads_new: bool
    is_open: bool
    last: tuple[Difference, ...]


class Mirror:
    """An old and a new cache behind the interface of the old one: see the module.

    Args:
        old: a mapping, or a client of a cache. It decides what callers get.
        new: what speaks the same interface: a ShmMap for a dict, one of `shmmap.contrib` for a
            framework's cache or a client.
        m: the map whose gate "mirror" says where reads go, and in which the counts are kept: the
            new side's, or another one where that is to have nothing else.
        name: tells mirrors of one map apart, in its counts.
        read_from: "gate" (default), or "old" or "new", whatever the gate says.
        sample: the share of reads that is compared, 0 to 1.
        repair: how the new side is corrected: "copy" the old side's value, "delete" the key, which
            is right for a cache; None: it is not.
        deadline: seconds that a caller waits for the new side at most.
        on_difference: is called with each Difference, aside.

    Operations that it does not know go to the old side alone; the first of each name is logged.
    Threads may share one, and forked children go on with it.
    """

    def __init__(
        self, old: Any, new: Any, m: ShmMap, *, name: str = "mirror",
        read_from: Literal["gate", "old", "new"] = "gate", sample: float = 0.01,
        repair: Literal["copy", "delete"] | None = "copy", deadline: float = 0.05,
        on_difference: Callable[[Difference], object] | None = None,
    ) -> None:
        if read_from not in ("gate", "old", "new"):
            raise ValueError(f"read_from={read_from!r} must be 'gate', 'old' or 'new'")
        if repair not in ("copy", "delete", None):
            raise ValueError(f"repair={repair!r} must be 'copy', 'delete' or None")
        if not 0 <= sample <= 1:
            raise ValueError(f"sample={sample!r} must be from 0 to 1")
        self.old, self.new, self.map = old, new, m
        self._name = name
        self._read_from = read_from
        self._sample = sample
        self._repair = repair
        self._deadline = seconds(deadline, "deadline")
        self._on_difference = on_difference
        self._told: set[str] = set()
        self._begin()

    def _begin(self) -> None:
        """Begin in this process: what a parent counted, and has still to do, is its own."""
        self._process = this_process()
        self._calls, self._comparing = Aside(), Aside()  # a comparison holds up no write
        self._breaker = Breaker()
        self._chance = random.Random()
        self._counts = dict.fromkeys(_COUNTS, 0)
        self._last: deque[Difference] = deque(maxlen=LAST)
        self._stale: dict[Key, None] = {}
        self._sharing = Lock()
        self._cleared = ""  # what would clear the new side, if it has missed that

    # -- the old side's interface -----------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name in ("old", "new"):  # of a copy that is being made: it has nothing yet
            raise AttributeError(name)
        known = getattr(self.old, name)
        if not callable(known) or name.startswith("_"):
            return known
        if name in sides.READS:
            return lambda *given, **named: self._read(name, given, named)
        if name in sides.WRITES:
            return lambda *given, **named: self._write(name, given, named)
        self._tell(name, f"{name}() is not mirrored: it goes to the old side alone")
        return known

    def __getitem__(self, key: Key) -> Value:
        return self._read("__getitem__", (key,), {})

    def __contains__(self, key: Key) -> bool:
        return bool(self._read("__contains__", (key,), {}))

    def __setitem__(self, key: Key, value: Value) -> None:
        self._write("__setitem__", (key, value), {})

    def __delitem__(self, key: Key) -> None:
        self._write("__delitem__", (key,), {})

    def __len__(self) -> int:
        return len(self.old)

    def __iter__(self) -> Any:
        return iter(self.old)

    def __bool__(self) -> bool:
        return bool(self.old)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Mirror has threads of its own, and is not pickled or copied: make one "
                        "in each process")

    # -- how it stands ------------------------------------------------------------------------

    @property
    def reads_new(self) -> bool:
        """Whether reads are answered by the new side."""
        if self._read_from != "gate":
            return self._read_from == "new"
        try:
            return self.map.gates["mirror"]
        except (ShmMapError, ValueError):  # the map is in the way: the old side is not
            return False

    def report(self) -> MirrorReport:
        """Return the counts of all processes, and this one's last differences."""
        self._share()
        total: dict[str, int] = dict.fromkeys(_COUNTS, 0)
        since = None
        with suppress(ShmMapError):
            for count in _COUNTS:
                total[count] = self.map.get(self._place(count), 0) + self._counts[count]
            since = self.map.get(self._place("since"))
        equal_for = 0.0 if since is None else max(0.0, time.time() - since)
        return MirrorReport(**total, equal_for=equal_for, reads_new=self.reads_new,
                            is_open=self._breaker.is_open, last=tuple(self._last))

    def is_proven(self, equal_for: float = 3600.0, compared: int = 1_000) -> bool:
        """Tell whether so many comparisons were made, and none has differed, and no call of the new
        side failed, for so many seconds: then switch: `m.gates["mirror"] = True`."""
        found = self.report()
        return found.compared >= compared and found.equal_for >= equal_for

    def compare(self, keys: Iterable[Key]) -> int:
        """Compare these keys now, and repair what differs; return how many differed."""
        return sum(bool(self._compare_key(key, "compare")) for key in keys)

    def flush(self, patience: float = 5.0) -> bool:
        """Wait until all that was to be done aside is done; tell whether it came in time. For the
        end of a process: it does so itself for a second, where it is not killed."""
        done = self._calls.drain(patience) and self._comparing.drain(patience)
        self._share()
        return done

    # -- reading and writing -------------------------------------------------------------------

    def _read(self, name: str, given: tuple[Any, ...], named: dict[str, Any]) -> Value:
        self._count("reads")
        given = sides.lasting(given)
        keys = sides.keys_of(name, given, named)
        if self.reads_new and not self._is_stale(keys):
            found = self._ask_new(name, given, named)
            if found is not None:
                self._perhaps_compare(name, keys)
                if not sides.is_miss(found, given, named):
                    return found.value
                # the old side says so in its own words, or has what the new one has lost
        answer = sides.call(self.old, name, given, named)
        self._perhaps_compare(name, keys)
        return answer

    def _write(self, name: str, given: tuple[Any, ...], named: dict[str, Any]) -> Value:
        self._count("writes")
        given = sides.lasting(given)
        answer = sides.call(self.old, name, given, named)
        keys = sides.keys_of(name, given, named)
        if self._cleared and self._ask_new(self._cleared, (), {}) is not None:
            self._cleared = ""  # before what is written after it
        found = None if self._cleared else self._ask_new(name, given, named)
        if found is not None and name in sides.COMPARED:
            self._count("compared")
        if found is None:
            self._missed(name, keys)
        elif found.error is not None or (
            name in sides.COMPARED and not sides.equal(Outcome(answer, None), found)
        ):
            self._later(lambda: [self._compare_key(key, name) for key in keys])
        elif self._stale:
            self._later(self._catch_up)
        return answer

    def _ask_new(
        self, name: str, given: tuple[Any, ...], named: dict[str, Any]
    ) -> Outcome | None:
        """Call the new side, aside; None: it failed, is late, or is not asked."""
        if self._breaker.is_open:
            self._count("skipped")
            return None
        try:
            found: Outcome = self._calls.run(
                lambda: sides.outcome(self.new, name, given, named), self._deadline
            )
        except Late as late:
            self._failed("late", name, str(late))
            return None
        if sides.is_failure(found):
            assert found.error is not None
            self._failed("failed", name, f"{found.error.__name__}: {found.value}")
            return None
        if self._breaker.passed():
            self._later(self._catch_up)
        return found

    def _failed(self, count: str, name: str, why: str) -> None:
        self._count(count)
        self._not_equal()
        self._tell(count, f"the new side's {name}() {count}: {why}")
        if self._breaker.failed():
            self._tell("open", "the new side fails again and again: it is left alone for a while")

    def _is_stale(self, keys: list[Key]) -> bool:
        """Tell whether the new side has missed a write of these keys."""
        if self._cleared or len(self._stale) >= _STALE:
            return True
        return bool(self._stale) and any(key in self._stale for key in keys)

    def _missed(self, name: str, keys: list[Key]) -> None:
        """Note which keys the new side has missed a write of."""
        self._not_equal()
        if name in sides.OF_ALL:
            self._cleared = name
        for key in keys[: _STALE - len(self._stale)]:
            self._stale[key] = None

    def _catch_up(self) -> None:
        """Bring what the new side has missed."""
        for key in list(self._stale):
            if self._breaker.is_open:
                return
            old, new = sides.look(self.old, key), sides.look(self.new, key)
            if sides.is_failure(old):  # it says nothing of what the new side should have
                return
            if sides.is_failure(new):
                self._failed("failed", "get", str(new.value))
                return
            self._stale.pop(key, None)  # before it is brought: a write from now on notes it again
            if not sides.equal(old, new):
                self._mend(key, old)

    # -- comparing -------------------------------------------------------------------------------

    def _perhaps_compare(self, name: str, keys: list[Key]) -> None:
        """Compare a sample of what is read."""
        if self._sample and self._chance.random() < self._sample:
            self._later(lambda: [self._compare_key(key, name) for key in keys])

    def _later(self, act: Callable[[], Any]) -> None:
        """Have something done aside; nobody waits for it."""
        if not self._breaker.is_open:
            with suppress(Late):
                self._comparing.submit(act)

    def _compare_key(self, key: Key, operation: str) -> bool | None:
        """Ask both sides for a key; tell whether they differ, and repair that. None: the new side
        does not answer."""
        self._count("compared")
        old = new = Outcome(None, None)
        for again in range(AGAIN):
            if again:
                time.sleep(AGAIN_S)
            old, new = sides.look(self.old, key), sides.look(self.new, key)
            if sides.is_failure(old):  # it says nothing of what the new side should have
                return None
            if sides.is_failure(new):
                self._failed("failed", "get", str(new.value))
                return None
            if sides.equal(old, new):
                self._begin_equal()
                return False
        found = Difference(time.time(), operation, key, sides.digest(old), sides.digest(new))
        self._last.append(found)
        self._count("differences")
        self._not_equal()
        self._tell("difference", f"the sides differ: {shown(key)} is {found.old} in the old one, "
                   f"{found.new} in the new one")
        if self._repair is not None:
            self._mend(key, old)
        if self._on_difference is not None:
            self._on_difference(found)
        return True

    def _mend(self, key: Key, old: Outcome) -> None:
        """Have the new side say what the old one does; again where that was written meanwhile."""
        try:
            for _ in range(AGAIN):
                if self._repair == "delete" or old.error is not None or old.value is None:
                    sides.remove(self.new, key)
                else:
                    sides.put(self.new, key, old.value, sides.left(self.old, key))
                now = sides.look(self.old, key)
                if self._repair == "delete" or sides.is_failure(now) or sides.equal(old, now):
                    break
                old = now
            self._count("repaired")
        except Exception as error:
            self._count("failed")
            self._tell("repair", f"{shown(key)} could not be repaired: {error}")

    # -- what all processes share ----------------------------------------------------------------

    def _count(self, what: str) -> None:
        """Count once more; every thousandth time all processes hear of it."""
        if self._process != this_process():
            self._begin()
        self._counts[what] += 1
        if what == "reads" and self._counts[what] >= 1_000:
            self._later(self._share)

    def _place(self, what: str) -> Key:
        return ("shmmap.mirror", self._name, what)

    def _share(self) -> None:
        """Add this process's counts to those in the map. Where it is in the way they wait."""
        if self._process != this_process():
            self._begin()
        sharing = self._sharing
        if not sharing.acquire(blocking=False):  # another thread is at it
            return
        try:
            for count in _COUNTS:
                number = self._counts[count]
                if number:
                    with suppress(ShmMapError):
                        self.map.incr(self._place(count), number, ttl=None)
                        self._counts[count] -= number
        finally:
            sharing.release()

    def _not_equal(self) -> None:
        """Note that the sides were not, or may not be, equal just now."""
        with suppress(ShmMapError):
            self.map.set(self._place("since"), time.time(), ttl=None)

    def _begin_equal(self) -> None:
        with suppress(ShmMapError):
            self.map.add(self._place("since"), time.time(), ttl=None)

    def _tell(self, what: str, text: str) -> None:
        """Log it, the first time."""
        if what not in self._told:
            self._told.add(what)
            logging.getLogger("shmmap").warning("mirror %r: %s. Told once", self._name, text)
