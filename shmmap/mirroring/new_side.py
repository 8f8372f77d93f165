"""The new side of a Mirror, in one process: asked, written and corrected by a thread of its own.

Whatever the new side does (raises, hangs, is full, ends a thread), its caller gets an `Outcome`,
or None after the deadline. All writes of the new side are made by the one thread, in order, and so
are corrections: a write that was late cannot come after the correction of what it wrote.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..checks import Value, shown
from ..memory._clock_cy import monotonic
from ..system.process import this_process
from . import sides
from .aside import Aside, Late
from .breaker import Breaker
from .missed import Missed
from .operations import Operation, Place
from .sides import Outcome
from .tally import Difference, Tally

LAST = 100  # differences that are kept
AGAIN = 3  # corrections, where the old side is written meanwhile
PAUSE_S = 0.05  # between two goes at what was missed
SLICE_S = 0.005  # of each: a caller may wait behind it


class NewSide:
    """See the module.

    Args:
        old, new: the sides.
        tally: counts.
        deadline_s: how long a caller waits.
        repair: "copy" the old side's value, "delete" the key; None: do nothing about a difference.
        inherited: the same of a parent process.
    """

    def __init__(
        self, old: Any, new: Any, tally: Tally, deadline_s: float, repair: str | None,
        inherited: NewSide | None = None,
    ) -> None:
        self.process = this_process()
        self.tally = tally
        self.missed: Missed = Missed(None if inherited is None else inherited.missed)
        self.breaker = Breaker()
        self.last: deque[Difference] = deque(maxlen=LAST)
        self.aside = Aside()
        self._old, self._new = old, new
        self._deadline_s = deadline_s
        self._repair = repair
        self._next_go = 0.0

    # -- for callers --------------------------------------------------------------------------

    def ask(
        self, operation: Operation, given: tuple[Any, ...], named: dict[str, Any]
    ) -> Outcome | None:
        """Call it; None: it failed, is late, or is not asked."""
        if not self.breaker.may_ask():
            self.tally.count("skipped")
            return None
        try:
            found: Outcome = self.aside.run(
                lambda: self._call(operation, given, named), self._deadline_s)
        except (Late, MemoryError, RecursionError) as late:  # the last two are the caller's state
            self._failed("late", operation.name, str(late))
            return None
        if sides.is_failure(found):
            self._failed("failed", operation.name, _said(found))
            return None
        self.breaker.passed()
        return found

    def write(
        self, operation: Operation, given: tuple[Any, ...], named: dict[str, Any], answer: Value
    ) -> str | None:
        """Make a write that the old side has made and answered; tell what it was missed for: ""
        that the new side was not reached, the operation's name that it said something else. None:
        it was made."""
        if self.missed.clears:  # that goes before
            self.tally.count("skipped")
            found = None
        else:
            found = self.ask(operation, given, named)
        if found is None:
            self.tally.is_unequal()
            return ""
        if operation.has_same_answer:
            self.tally.count("compared")
            if not sides.equal(Outcome(answer, None), found):
                return operation.name
        return None if found.error is None else operation.name

    def go_on(self) -> None:
        """Have some of what was missed brought over, if there is any; nobody waits for it."""
        if self.missed.waits() and monotonic() >= self._next_go and self.breaker.may_ask():
            self._next_go = monotonic() + PAUSE_S
            with suppress(Late):
                self.aside.submit(self._bring_some)

    def correct(self, place: Place) -> Callable[[float], bool]:
        """Have an entry corrected; return what waits for that."""
        def act() -> None:
            if not self._bring(place):
                self.missed.note(place)

        try:
            return self.aside.submit(act).wait
        except Late:
            self.missed.note(place)
            return lambda patience_s: False

    def differs(self, operation: str, place: Place, old: Outcome, new: Outcome) -> Difference:
        """Note a difference."""
        found = Difference(
            time.time(), operation, place.key, sides.digest(old), sides.digest(new))
        self.last.append(found)
        self.tally.count("differences")
        self.tally.is_unequal()
        self.tally.tell("difference", f"the sides differ: {shown(place.key)} is {found.old} in the "
                        f"old one, {found.new} in the new one")
        return found

    def is_well(self, found: Outcome, name: str) -> bool:
        """Tell whether it has answered; note a failure."""
        if sides.is_failure(found):
            self._failed("failed", name, _said(found))
            return False
        self.breaker.passed()
        return True

    # -- in the thread ------------------------------------------------------------------------

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

    def _bring_some(self) -> None:
        """Bring over what was missed, for a short while."""
        until = monotonic() + SLICE_S
        if self.missed.bring_clear(self._clear):
            while self.missed.bring(self._look_and_bring) and monotonic() < until:
                pass

    def _clear(self, name: str) -> bool:
        found = self._call(Operation(self._new, name), (), {})
        return self.is_well(found, name) and found.error is None

    def _look_and_bring(self, place: Place, why: str) -> bool:
        """Look at an entry that the new side is perhaps wrong about; tell whether it is right now.
        """
        old, new = sides.look(self._old, place), sides.look(self._new, place)
        if sides.is_failure(old):  # it says nothing of what the new side should have
            return False
        if not self.is_well(new, "get"):
            return False
        if sides.equal(old, new):
            return True
        if self.missed.is_under_way([place]):  # a write of it waits for this thread
            return False
        if why:
            self.differs(why, place, old, new)
            if self._repair is None:
                return True
        return self._bring(place)

    def _bring(self, place: Place) -> bool:
        """Have the new side say what the old one does; again where that was written meanwhile.
        Tell whether that was done."""
        old = sides.look(self._old, place)
        for _ in range(AGAIN):
            if sides.is_failure(old):
                return False
            if not self.is_well(self._correct(place, old), "set"):
                return False
            before, old = old, sides.look(self._old, place)
            if self._repair == "delete" or sides.equal(before, old):
                break
        self.tally.count("repaired")
        return True

    def _correct(self, place: Place, old: Outcome) -> Outcome:
        """Write an entry, or remove it: also where it cannot be written."""
        if self._repair != "delete" and old.error is None and old.value is not None:
            done = sides.outcome(sides, "copy", (place, old.value, self._old, self._new), {})
            if done.error is None:
                return done
            self.tally.tell("copy", f"{shown(place.key)} could not be copied, so the new side is "
                            f"left without: {_said(done)}")
        return sides.outcome(sides, "remove", (self._new, place), {})

    def _failed(self, count: str, name: str, why: str) -> None:
        self.tally.count(count)
        self.tally.is_unequal()
        self.tally.tell(count, f"the new side's {name}() {count}: {why}")
        if self.breaker.failed():
            self.tally.tell(
                "open", "the new side fails again and again: it is left alone for a while")


def _said(found: Outcome) -> str:
    return f"{found.error.__name__}: {found.value}" if found.error else str(found.value)
