"""Mirror: from an old cache to a new one, under load, with a proof that they are equal.

    1  the old side does the operation, and what it returns or raises is the caller's
    2  a write is made on the new side, too, aside: its caller waits for `deadline` at most
    3  of the reads a sample is compared, aside: both sides are asked, and asked again where they
       differ, since a write may be under way; what still differs is a difference, and repaired
    4  once the gate "mirror" of the map is switched on, reads are answered by the new side, in
       every process at once; where that fails, is late or has nothing, by the old one, which is
       still written
    5  the old side is taken out of the program

So the old side alone decides what a caller gets until 4, and stands by afterwards. What the new
side has missed is read from the old side by this process, and brought over as soon as the new side
answers again. Another process may read what the new side had before until then: so switch when
nothing was missed for long, `is_proven`.

Two processes that write one key at once may write the two sides in different orders. A comparison
finds that, and repairs it.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, NoReturn

from .._public import public
from ..checks import Key, Value, refuse_one_key, seconds
from ..errors import ShmMapError
from ..map import ShmMap
from ..memory._clock_cy import monotonic
from ..system.process import this_process
from . import sides
from .new_side import NewSide
from .operations import READERS, READS, WRITES, Operation, Place
from .sides import Verdict
from .tally import Difference, MirrorReport, Tally

LOOKS = 3  # at two values that differ
AGAIN_S = 0.05
_SHARE_S = 1.0  # that a report waits for what is in the way of the counts


@public
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
            is right for a cache; None: differences are only told.
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
        _refuse(old, new, m)
        self.old, self.new, self.map = old, new, m
        self._name = name
        self._read_from = read_from
        self._sample = sample
        self._repair = repair
        self._deadline = seconds(deadline, "deadline")
        self._on_difference = on_difference
        self._operations: dict[str, Operation] = {}
        self._by_process: dict[int, NewSide] = {}
        self._mine()

    def _mine(self) -> NewSide:
        """Return what belongs to this process. What a parent counted is its own to tell."""
        process = this_process()
        mine = self._by_process.get(process)
        if mine is None:
            former = list(self._by_process.values())[-1:]
            made = NewSide(self.old, self.new, Tally(self.map, self._name), self._deadline,
                           self._repair, *former)
            mine = self._by_process.setdefault(process, made)  # of all threads the first one's
        return mine

    def _operation(self, name: str) -> Operation:
        known = self._operations.get(name)
        if known is None:
            known = self._operations[name] = Operation(self.old, name)
        return known

    # -- the old side's interface -----------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name in ("old", "new"):  # of a copy that is being made: it has nothing yet
            raise AttributeError(name)
        known = getattr(self.old, name)
        if not callable(known) or name.startswith("_"):
            return known
        if name in READS:
            return lambda *given, **named: self._read(name, given, named)
        if name in WRITES:
            return lambda *given, **named: self._write(name, given, named)
        only_reads = name in READERS and not (name == "copy" and hasattr(self.old, "mget"))  # redis
        return known if only_reads else partial(self._unmirrored, name, known)

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

    def __repr__(self) -> str:
        reads = "new" if self.reads_new else "old"
        return (f"<Mirror {self._name!r} of a {type(self.old).__name__} in a "
                f"{type(self.new).__name__}, reads the {reads} one>")

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
        """Return the counts of all processes, and how this one stands."""
        here = self._mine()
        here.share(_SHARE_S)
        total, since = here.tally.totals()
        missed = here.missed.count()
        equal_for = max(0.0, time.time() - since) if since and not missed else 0.0
        return MirrorReport(**total, equal_for=equal_for, missed=missed, reads_new=self.reads_new,
                            is_open=here.breaker.is_open, last=tuple(here.last))

    def is_proven(self, equal_for: float = 3600.0, compared: int = 1_000) -> bool:
        """Tell whether so many comparisons were made, none has differed and no call of the new side
        failed for so many seconds, and nothing went to the old side alone: then switch:
        `m.gates["mirror"] = True`."""
        found = self.report()
        return (found.compared >= compared and found.equal_for >= equal_for
                and found.equal_for > 0 and found.missed == found.unmirrored == 0)

    def compare(self, keys: Iterable[Key]) -> int:
        """Compare these keys now, and bring over what differs or is missing; return how many that
        were. O(keys); 0.1 s for each that differs."""
        refuse_one_key(keys)
        get = self._operation("get")
        return sum(self._compare(place, "compare", is_asked=True) is True
                   for key in keys for place in get.places((key,), {}) or ())

    def flush(self, patience: float = 5.0) -> bool:
        """Wait until all that was to be done aside is done, and what was missed is brought over;
        tell whether it came in time. For the end of a process: it does so itself for a second,
        where it is not killed."""
        here = self._mine()
        here.later.drain(patience)  # comparisons first: they may find something to do
        done = here.drain(monotonic() + patience)
        here.share(_SHARE_S)
        return done

    # -- reading and writing -------------------------------------------------------------------

    def _read(self, name: str, given: tuple[Any, ...], named: dict[str, Any]) -> Value:
        here = self._mine()
        operation = self._operation(name)
        given, named = operation.lasting(given, named)
        places = operation.places(given, named)
        here.tally.count("reads")
        here.go_on()
        if self.reads_new and places and not here.missed.has(places):
            found = here.ask(operation, given, named)
            if found is not None and found.error is None and (
                not operation.misses(found.value, places, given, named)
            ):
                self._perhaps_compare(here, name, places)
                return found.value
            # else the old side says so in its own words, or has what the new one has lost
        answer = getattr(self.old, name)(*given, **named)
        self._perhaps_compare(here, name, places)
        return answer

    def _write(self, name: str, given: tuple[Any, ...], named: dict[str, Any]) -> Value:
        here = self._mine()
        operation = self._operation(name)
        given, named = operation.lasting(given, named)
        places = operation.places(given, named)
        if places is None:
            return self._unmirrored(name, getattr(self.old, name), *given, **named)
        here.tally.count("writes")
        number = here.missed.begins(operation, places)
        why: str | None = ""
        try:
            try:
                answer = getattr(self.old, name)(*given, **named)
            except sides.ANSWERS:
                if not operation.is_of_many:  # it refused: whether the sides are alike is looked at
                    why = name
                raise
            why = here.write(operation, given, named, answer)
        finally:
            if why == "":  # else both have made it, and what they said is looked at
                here.is_unequal()
            here.missed.ends(number, why is not None, why or "")
            here.go_on()
        return answer

    def _unmirrored(self, name: str, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Do what only the old side does."""
        tally = self._mine().tally
        tally.count("unmirrored")
        tally.tell(name, f"{name}(), or with such arguments, is not mirrored: it goes to the old "
                   "side alone")
        return call(*given, **named)

    # -- comparing -------------------------------------------------------------------------------

    def _perhaps_compare(self, here: NewSide, name: str, places: list[Place] | None) -> None:
        """Compare a sample of what is read."""
        if places and here.chance.random() < self._sample and not here.breaker.is_open:
            here.submit(lambda: [self._compare(place, name) for place in places])

    def _compare(self, place: Place, operation: str, is_asked: bool = False) -> bool | None:
        """Ask both sides for an entry; tell whether they differ, and repair that. None: one of them
        does not answer, or a write of it is under way or was missed."""
        here = self._mine()
        if here.missed.has([place]) and not is_asked:
            return None
        verdict, old, new = sides.judge(
            self.old, place, partial(here.look, place), LOOKS, AGAIN_S)
        if verdict in (Verdict.FAILED, Verdict.CHANGING) or (
            here.missed.has([place]) and not is_asked
        ):
            return None
        here.tally.count("compared")
        if verdict is Verdict.EQUAL:
            here.tally.is_equal()
            return False
        found = None
        if verdict is Verdict.MISSING:
            here.tally.count("missing")
        else:
            found = here.differs(operation, place, old, new)
        if self._repair is not None:
            here.correct(place)
        if found is not None and self._on_difference is not None:
            try:
                self._on_difference(found)
            except Exception as error:
                if is_asked:
                    raise
                here.tally.tell("on_difference", f"on_difference has raised {error!r}")
        return True


def _refuse(old: Any, new: Any, m: ShmMap) -> None:
    """Refuse sides that cannot stand for each other."""
    if not isinstance(m, ShmMap):
        raise TypeError(f"m={m!r} must be the handle of a map, as new.map of our backends is: it "
                        "has the gate and the counts")
    if inspect.iscoroutinefunction(getattr(old, "get", None)) or (
        hasattr(old, "__aenter__") and not hasattr(old, "__enter__")
    ):
        raise TypeError(f"a {type(old).__name__} is for coroutines: give the Mirror a client that "
                        "is not")
    is_mapping = isinstance(old, ShmMap) or not hasattr(old, "set")
    if isinstance(new, ShmMap) and not is_mapping:
        raise TypeError(f"the new side of a {type(old).__name__} must have its interface, and a "
                        "map has its own: see the table in docs/guide/mirror.md")
