"""Which entries the new side is not to be asked for: a write of them is under way, or was missed.

A write is noted before the old side is called, and the note is taken back when the new side has
made it. So whatever happens between (an old side that raises after it has written, a handler that
raises) leaves the note. What was missed is brought over later, an entry at a time; meanwhile the
old side is read.

Readers look at four places, in the order in which an entry moves through them: under way, missed,
being brought, and (put back) missed.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ..memory._clock_cy import monotonic
from .operations import Operation, Place

MOST = 100_000
_LOST_S = 2.0  # a write that has not ended after so long: its caller was thrown out of it
_BESIDE = "a write beside another one"


class _Write(NamedTuple):
    """A write under way."""

    places: list[Place]
    clears: str
    since: float


class Missed:
    """What the new side has missed in this process. Each step is one of C's, so threads and
    handlers of signals may share it; `bring` and `bring_clear` are called by one thread.

    Attributes:
        clears: the method that would clear the new side, where it has missed that.
        is_beyond: whether more was missed than is noted: nobody knows which entries these were.
    """

    def __init__(self, inherited: Missed | None = None) -> None:
        """Begin; a forked child with what its parent had missed."""
        self.clears = ""
        self.is_beyond = False
        self._numbers = itertools.count()
        self._under_way: dict[int, _Write] = {}
        self._missed: dict[Place, str] = {}
        self._order: deque[Place] = deque()  # of these; one that is not among them is passed over
        self._bringing: Place | None = None
        self._is_missed = False  # that one
        self._clearing = ""
        if inherited is not None:
            self.clears = inherited.clears or inherited._clearing
            self.is_beyond = inherited.is_beyond
            bringing = inherited._bringing
            for place in (*inherited._missed.copy(), *([] if bringing is None else [bringing])):
                self.note(place)
            for write in list(inherited._under_way.values()):
                self._note(write, "")

    def __len__(self) -> int:
        """Count what is noted: entries, and what clears them all."""
        return len(self._missed) + self._rest(self._bringing in self._missed)

    def _rest(self, is_counted: bool) -> int:
        brings = self._bringing is not None and not is_counted
        return brings + bool(self.clears or self._clearing) + self.is_beyond + self._lost()

    def count(self) -> int:
        """Count what the new side has not made, as far as is known; not what both sides have made
        and is to be looked at."""
        missed = sum(not why for why in list(self._missed.values()))
        again = self._missed.get(self._bringing, "no") == "" if self._bringing else False
        return missed + self._rest(is_counted=again or not self._is_missed)

    def begins(self, operation: Operation, places: list[Place]) -> int:
        """Note a write that begins; return what it ends by. One that begins beside another one of
        the same entry may be the second on one side and the first on the other: then the entry is
        looked at afterwards."""
        number = next(self._numbers)
        clears = operation.name if operation.clears else ""
        mine = _Write(places, clears, monotonic())
        self._under_way[number] = mine
        for other in list(self._under_way.values()) if len(self._under_way) > 1 else ():
            if other is not mine:
                self._note_both(mine, other)
        return number

    def _note_both(self, one: _Write, other: _Write) -> None:
        places = {*one.places, *other.places}
        if not (one.clears or other.clears):
            places = set(one.places).intersection(other.places)
        for place in places:
            self.note(place, _BESIDE)

    def ends(self, number: int, missed: bool, why: str = "") -> None:
        """Note that it has ended. `why`: the operation of which the two sides, which have both made
        it, said different things; "": the new side has not made it."""
        write = self._under_way.get(number)
        if write is not None:
            if missed:
                self._note(write, why)
            self._under_way.pop(number, None)

    def _note(self, write: _Write, why: str) -> None:
        if write.clears:
            self.clears = write.clears
        for place in write.places:
            self.note(place, why)

    def note(self, place: Place, why: str = "") -> None:
        """Note that the new side is not right about an entry."""
        if len(self._missed) >= MOST:
            self.is_beyond = True
            return
        if place not in self._missed:
            self._order.append(place)
        self._missed[place] = why or self._missed.get(place, "")

    def has(self, places: list[Place]) -> bool:
        """Tell whether the new side may be wrong about one of these."""
        if self.is_beyond or self.clears or self._clearing or self.clears:
            return True
        missed = self._missed
        return (self.is_under_way(places)
                or any(place in missed for place in places)
                or self._bringing in places
                or any(place in missed for place in places))

    def is_under_way(self, places: list[Place]) -> bool:
        """Tell whether a write of one of these has not ended."""
        if not self._under_way:
            return False
        mine = frozenset(places)
        return any(write.clears or not mine.isdisjoint(write.places)
                   for write in list(self._under_way.values()))

    def _lost(self) -> int:
        """Count the writes that should have ended."""
        if not self._under_way:
            return 0
        before = monotonic() - _LOST_S / 2
        return sum(write.since < before for write in list(self._under_way.values()))

    def waits(self) -> bool:
        """Tell whether there is anything to be brought over."""
        return bool(self._missed or self.clears)

    def adopt(self) -> bool:
        """Note writes that have never ended, since a handler of a signal threw their callers out
        of them, as missed; tell whether there were any."""
        lost = False
        for number, write in self._under_way.copy().items() if self._under_way else ():
            if monotonic() - write.since > _LOST_S:
                self.ends(number, missed=True)
                lost = True
        return lost

    def bring_clear(self, act: Callable[[str], bool]) -> bool:
        """Clear the new side, if it has missed that: `act` tells whether it was done, and gets the
        method's name. Return whether entries can be brought now."""
        name = self.clears
        if not name:
            return True
        self._clearing = name
        self.clears = ""  # who clears from now on notes it again
        done = False
        try:
            done = act(name)
        finally:
            if not done:
                self.clears = self.clears or name
            self._clearing = ""
        return done

    def bring(self, act: Callable[[Place, str], bool]) -> bool:
        """Bring the oldest entry over: `act` gets it, and why it is here, and tells whether that
        was done. Return whether there are more, and it makes sense to go on."""
        if not self._order:
            self._order.extend(list(self._missed))  # noted between two steps of `note`
        if not self._order:
            return False
        place = self._order[0]
        self._is_missed = not self._missed.get(place, "")
        self._bringing = place
        self._order.popleft()
        why = self._missed.pop(place, None)
        done = why is None  # it was brought before
        try:
            done = done or act(place, str(why))
        finally:
            if not done:
                self.note(place, str(why))
            self._bringing = None
        return done and bool(self._order)
