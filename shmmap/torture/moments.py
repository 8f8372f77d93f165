"""The moments of a move that count: whoever moves the map lingers at one of them while the parent
wishes to stop or kill a mover there.

Each is a place between two steps of the mover, in the modules that take them. The parent says in
a word that all share at which place it aims; who comes there says in another one that it is there,
and waits a little. So a mover is hit where no chance would, and moves at its own speed otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from ..lifecycle.control import ENGINE
from ..lifecycle.store import SHARED
from ..memory.layout import constants
from ..moving import changing, group, mover, segments, watch
from ..operations import _moves_cy
from ..system.blocks import block
from ..system.tasks import sleep
from .ledger import AIMED, MOMENT, TAKEN_OVER, Lane, Ledger, now_ns

FREE_PLACES = ("made", "tracked", "copied", "cutting", "moved", "punched", "renaming",
               "exchanging", "exchanged", "unlinking")
"""Places at which a mover holds nothing for which anybody waits."""
HOLDING_PLACES = ("turning", *(("storing",) if ENGINE == "pure" else ()))
"""Those at which it does: the creation lock, or shards of which some say that they have moved."""
_NUMBERS = {place: number for number, place in enumerate(FREE_PLACES + HOLDING_PLACES, 1)}
_PID_SHIFT = 8
_PATIENCE_NS = 200_000_000
_MOVED = constants()["S_MOVED"]
_TABLE = constants()["C_TABLE"]


class Moments:
    """Those of a run. `lane`: of this process, which counts there whom it has taken over from."""

    def __init__(self, ledger: Ledger) -> None:
        self._words = ledger.words
        self._parent = os.getpid()
        self.lane: Lane | None = None
        self._is_changing = False

    # -- the parent ---------------------------------------------------------------------

    def aim_at(self, place: str) -> None:
        """Wish that a mover lingers at a place; "": at none."""
        self._words[MOMENT] = 0  # of one that was killed there
        self._words[AIMED] = _NUMBERS[place] if place else 0

    def who_is_there(self) -> int:
        """Return the pid of who lingers; 0: nobody."""
        return int(self._words[MOMENT] >> _PID_SHIFT)

    # -- the movers ---------------------------------------------------------------------

    def _at(self, place: str) -> None:
        words, number = self._words, _NUMBERS[place]
        if words[AIMED] != number or (self._is_changing and place in FREE_PLACES):
            return
        words[MOMENT] = os.getpid() << _PID_SHIFT | number
        until = now_ns() + _PATIENCE_NS
        try:
            while words[AIMED] == number and now_ns() < until:
                sleep(0.0002)
        finally:
            words[MOMENT] = 0

    def _around(self, function: Callable[..., Any], before: str, after: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if before:
                self._at(before)
            result = function(*arguments)
            if after:
                self._at(after)
            return result
        return call

    def _taking(self, take: Callable[[Any], bool]) -> Callable[[Any], bool]:
        """Count leases that were others'."""
        def call(one: Any) -> bool:
            holder = one._attachment.control.MOVER
            took = take(one)
            if took and holder not in (0, one._token) and self.lane is not None:
                self.lane.words[TAKEN_OVER] += 1
            return took
        return call

    def _exchange(self, exchange: Callable[..., bool]) -> Callable[..., bool]:
        def call(handle: Any, offset: int, *words: int) -> bool:
            if offset != _TABLE:
                return exchange(handle, offset, *words)
            self._at("exchanging")
            done = exchange(handle, offset, *words)
            self._at("exchanged")
            return done
        return call

    def _turn(self, exchange: Callable[..., bool]) -> Callable[..., bool]:
        def call(handle: Any, offset: int, *words: int) -> bool:
            done = exchange(handle, offset, *words)
            self._at("turning")
            return done
        return call

    def _change(self, change: Callable[..., bool]) -> Callable[..., bool]:
        """Note that the creation lock is held: whoever opens a map waits for that."""
        def call(*arguments: Any) -> bool:
            self._is_changing = True
            try:
                return change(*arguments)
            finally:
                self._is_changing = False
        return call

    def _remove(self, remove: Callable[..., None]) -> Callable[..., None]:
        def call(one: Any, places: tuple[Any, ...]) -> None:
            for place in places:
                self._at("unlinking")
                remove(one, (place,))
        return call

    def _store(self, store: Callable[..., None]) -> Callable[..., None]:
        def call(memory: Any, offset: int, value: int) -> None:
            if offset == _MOVED:
                self._at("storing")
            store(memory, offset, value)
        return call

    def _look_after(self, look_after: Callable[..., None]) -> Callable[..., None]:
        """Have no thread in the parent, which forks: it moves nothing in the background."""
        def call(attachment: Any) -> None:
            if os.getpid() != self._parent:
                look_after(attachment)
        return call

    def _wrapped(self) -> list[tuple[Any, str, Callable[[Any], Any]]]:
        """List what is to be wrapped: where it is, its name, and by what."""
        made = segments.Segments
        return [
            (made, "make", lambda make: self._around(make, "", "made")),
            (made, "punch", lambda punch: self._around(punch, "", "punched")),
            (made, "remove", self._remove),
            (type(SHARED), "rename", lambda rename: self._around(rename, "renaming", "")),
            (group, "track_moved", lambda track: self._around(track, "", "tracked")),
            (group, "copy_moved", lambda copy: self._around(copy, "", "copied")),
            (group, "cut_group", lambda cut: self._around(cut, "cutting", "moved")),
            (group, "exchange_word", self._exchange),
            (changing, "exchange_word", self._turn),
            (changing, "_exchange", self._change),
            (mover.Mover, "_take_lease", self._taking),
            (watch, "look_after", self._look_after),
            *([(_moves_cy, "publish", self._store)] if ENGINE == "pure" else []),
        ]

    @block
    def watched(self) -> Iterator[None]:
        """Have this process, and whom it forks, come by these places."""
        former = []
        try:
            for where, name, wrap in self._wrapped():
                former.append((where, name, getattr(where, name)))
                setattr(where, name, wrap(former[-1][2]))
            yield
        finally:
            for where, name, function in former:
                setattr(where, name, function)
