"""The new side of a Mirror, in one process: asked and written by a thread of its own, and made like
the old side by another one, where it has missed something.

Whatever the new side does (raises, hangs, is full, ends a thread), its caller gets an `Outcome`,
or None after the deadline. All that is written to it is written by the one thread, in order. The
other thread looks at the old side, which may be slow, and has what it found written; then it looks
again, whether that is still so. Meanwhile readers read the old side.
"""

from __future__ import annotations

import atexit
import random
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from ..breaker import Breaker
from ..checks import Value, shown
from ..memory._clock_cy import monotonic
from ..system.process import this_process
from . import sides
from .aside import Aside, Late
from .missed import Missed
from .operations import Operation, Place
from .sides import Outcome, Verdict
from .tally import Difference, Tally

LAST = 100  # differences that are kept
AGAIN = 3  # corrections, where the old side is written meanwhile
PAUSE_S = 0.05  # between two goes at what was missed
SLICE_S = 0.25  # of each; comparisons wait behind it
_AT_EXIT_S = 1.0
LOOKS, LOOK_S = 3, 0.005  # at what the sides have said different things of
PATIENCE_S = 5.0  # of the thread that corrects


class NewSide:
    """See the module.

    Args:
        old, new: the sides.
        tally: counts.
        deadline_s: how long a caller waits.
        repair: "copy" the old side's value, "delete" the key; None: do nothing about a difference.
        inherited: the same of a parent process.

    Attributes:
        later: does what nobody waits for.
    """

    def __init__(
        self, old: Any, new: Any, tally: Tally, deadline_s: float, repair: str | None,
        inherited: NewSide | None = None,
    ) -> None:
        self.process = this_process()
        self.tally = tally
        self.missed: Missed = Missed(None if inherited is None else inherited.missed)
        self.breaker = Breaker()
        self.chance = random.Random()
        self.last: deque[Difference] = deque(maxlen=LAST)
        self.later = Aside()
        self._calls = Aside()
        self._old, self._new = old, new
        self._deadline_s = deadline_s
        self._repair = repair
        self._next_go = self._next_share = 0.0
        _sides.add(self)

    # -- for callers --------------------------------------------------------------------------

    def ask(
        self, operation: Operation, given: tuple[Any, ...], named: dict[str, Any],
        act: Callable[[], Outcome] | None = None,
    ) -> Outcome | None:
        """Call it, or have its thread do `act`; None: it failed, is late, or is not asked."""
        if not self.breaker.may_ask():
            self.tally.count("skipped")
            return None
        try:
            found: Outcome = self._calls.run(
                act or partial(self._call, operation, given, named), self._deadline_s)
        except (Late, MemoryError, RecursionError) as late:  # the last two are the caller's state
            self._failed("late", operation.name, str(late))
            return None
        return found if self.is_well(found, operation.name) else None

    def write(
        self, operation: Operation, given: tuple[Any, ...], named: dict[str, Any], answer: Value
    ) -> str | None:
        """Make a write that the old side has made and answered; tell what it was missed for: ""
        that it was not made, the operation's name that the new side said something else. None: it
        was made."""
        if operation.is_copied or named.get("keepttl"):  # what is kept may differ
            return ""
        is_same = False

        def act() -> Outcome:  # to compare may take long, too
            nonlocal is_same
            found = self._call(operation, given, named)
            if operation.has_same_answer:
                is_same = sides.equal(Outcome(answer, None), found)
            else:  # what some say by True or a count others say by nothing
                is_same = found.error is None and _is_refusal(answer) == _is_refusal(found.value)
            return found

        if self.missed.clears:  # that goes before
            self.tally.count("skipped")
            found = None
        else:
            found = self.ask(operation, given, named, act)
        if found is None:
            return ""
        if operation.has_same_answer:
            self.tally.count("compared")
        if is_same:
            return None
        return operation.name if operation.has_same_answer and found.error is None else ""

    def go_on(self) -> None:
        """Have some of what was missed brought over, if there is any, and all processes know of
        this one's counts, now and then. Nobody waits for it."""
        now = monotonic()
        if self.missed.adopt():
            self.is_unequal()
        if self.missed.waits() and now >= self._next_go and self.breaker.may_ask():
            self._next_go = now + PAUSE_S
            self.submit(self._bring_some)
        if now >= self._next_share:
            self._next_share = now + PAUSE_S if self.tally.is_news else now + 1.0
            self.submit(self.tally.share)

    def submit(self, act: Callable[[], Any]) -> None:
        """Have something done that nobody waits for; where it cannot be, nobody is told."""
        with suppress(Late):
            self.later.submit(act)

    def correct(self, place: Place) -> bool:
        """Have the new side say what the old one does; tell whether that was done."""
        done = self._bring(place)
        if not done:
            self.missed.note(place)
        return done

    def differs(self, operation: str, place: Place, old: Outcome, new: Outcome) -> Difference:
        """Note a difference."""
        found = Difference(
            time.time(), operation, place.key, sides.digest(old), sides.digest(new))
        self.last.append(found)
        self.tally.count("differences")
        self.tally.write_down()
        self.is_unequal()
        self.tally.tell("difference", f"the sides differ: {shown(place.key)} is {_kind(old)} "
                        f"{found.old} in the old one, {_kind(new)} {found.new} in the new one")
        return found

    def is_unequal(self) -> None:
        """Note that the sides are not, or may not be, equal just now. Others hear of it soon."""
        self.tally.is_unequal()
        self._next_share = 0.0

    def is_well(self, found: Outcome, name: str) -> bool:
        """Tell whether it has answered; note a failure."""
        if sides.is_failure(found):
            self._failed("failed", name, _said(found), counts=not sides.is_no_room(found))
            return False
        self.breaker.passed()
        return True

    def look(self, place: Place) -> Outcome | None:
        """Look at an entry of the new side, in the caller's thread; None: it does not answer."""
        found = sides.look(self._new, place)
        return found if self.is_well(found, "get") else None

    def share(self, patience_s: float) -> None:
        """Have all processes know what this one has counted, if the map is not in the way."""
        with suppress(Late):
            self.later.submit(self.tally.share).wait(patience_s)

    def drain(self, until: float) -> bool:
        """Wait until all is done, or until then (monotonic()); tell whether it is."""
        while self.missed.waits() and monotonic() < until:
            self.go_on()
            time.sleep(0.005)
        done = self.later.drain(max(0.0, until - monotonic()))
        return self._calls.drain(max(0.0, until - monotonic())) and done and not len(self.missed)

    # -- in the thread that calls the new side ---------------------------------------------------

    def _call(
        self, operation: Operation, given: tuple[Any, ...], named: dict[str, Any]
    ) -> Outcome:
        if not operation.clears:
            return sides.outcome(self._new, operation.name, given, named)
        kept: dict[str, float] = {}
        with suppress(Exception):
            kept = self.tally.kept()
        found = sides.outcome(self._new, operation.name, given, named)
        with suppress(Exception):
            self.tally.keep(kept)
        return found

    # -- in the thread that nobody waits for -----------------------------------------------------

    def _bring_some(self) -> None:
        """Bring over what was missed, for a short while."""
        until = monotonic() + SLICE_S
        if self.missed.bring_clear(self._clear):
            while self.missed.bring(self._look_and_bring) and monotonic() < until:
                pass

    def _have(self, name: str, act: Callable[[], Outcome]) -> Outcome | None:
        """Have the other thread do something, after all that it has begun; None: it failed."""
        try:
            found: Outcome = self._calls.run(act, PATIENCE_S)
        except Late as late:
            self._failed("late", name, str(late))
            return None
        return found if self.is_well(found, name) else None

    def _clear(self, name: str) -> bool:
        operation = Operation(self._new, name)
        return self._have(name, lambda: self._call(operation, (), {})) is not None

    def _look_and_bring(self, place: Place, why: str) -> bool:
        """Bring over an entry that the new side is perhaps wrong about; tell whether it is right
        now. Equal values are not enough: a write that was missed may have changed their end."""
        if self.missed.is_under_way([place]):  # a write of it may come to the new side after this
            return False
        looks = LOOKS if why else 1  # what was missed is copied in any case
        verdict, old, new = sides.judge(
            self._old, place, lambda: self._have("get", lambda: sides.look(self._new, place)),
            looks, LOOK_S)
        if verdict is Verdict.FAILED and not sides.is_failure(old):
            return False  # the new side does not answer
        if self.missed.is_under_way([place]):  # it is not made on both sides yet
            return False
        if old == new == sides.NONE or (why and verdict is Verdict.EQUAL):
            return True
        if why and verdict is Verdict.DIFFERENT:
            self.differs(why, place, old, new)
            if self._repair is None:
                return True
        return self._bring(place)

    def _bring(self, place: Place) -> bool:
        """Have the new side say what the old one does; again where that was written meanwhile.
        Tell whether that was done. Where the old side cannot say what it has, or for how long, the
        new one is left without."""
        for _ in range(AGAIN):
            old = sides.look(self._old, place)
            left = None
            if self._repair != "delete" and old.error is None and old.value is not None:
                left = sides.left(self._old, place)
            if self._have("set", partial(self._correct, place, old, left)) is None:
                return False
            if left is None or sides.equal(old, sides.look(self._old, place)):
                self.tally.count("repaired")
                return True
        return False

    def _correct(self, place: Place, old: Outcome, left: float | None) -> Outcome:
        """Write an entry, or remove it: also where it cannot be written."""
        if left is not None:
            done = sides.outcome(sides, "put", (self._new, place, old.value, left), {})
            if done.error is None:
                return done
            self.tally.tell("copy", f"{shown(place.key)} could not be copied, so the new side is "
                            f"left without: {_said(done)}")
        return sides.outcome(sides, "remove", (self._new, place), {})

    def _failed(self, count: str, name: str, why: str, *, counts: bool = True) -> None:
        """Note a failure; `counts`: against the side as a whole."""
        self.tally.count(count)
        self.is_unequal()
        self.tally.tell(count, f"the new side's {name}() {count}: {why}")
        if counts and self.breaker.failed():
            self.tally.tell(
                "open", "the new side fails again and again: it is left alone for a while")


_sides: weakref.WeakSet[NewSide] = weakref.WeakSet()


@atexit.register
def _end() -> None:
    """Bring over what was missed as the process ends, if that takes no longer than a second."""
    until = monotonic() + _AT_EXIT_S
    for side in list(_sides):
        if side.process == this_process():
            side.drain(until)
            side.share(until - monotonic())


def _is_refusal(answer: Value) -> bool:
    return answer is None or answer is False


def _kind(found: Outcome) -> str:
    return "an error" if found.error else f"a {type(found.value).__name__}"


def _said(found: Outcome) -> str:
    return f"{found.error.__name__}: {found.value}" if found.error else str(found.value)
