"""The processes that resize the main map again and again: to shapes that hold what it has, and to
some that do not; at once, slowly, in the background; some are taken back half-way."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from ..errors import EntryTooLarge, MapFull
from ..memory.geometry import VALUE_SIZE
from .actor import Actor, Interrupted
from .ledger import CANCELLED, LEFT_HALF_WAY, RESIZED, STOP, TOO_SMALL
from .replacer import pause

if TYPE_CHECKING:
    from ..map import ShmMap
    from ..moving.mover import Progress
    from ..moving.resizing import Resize
    from .shapes import Shape
    from .workers import Worker

_LONGEST_PAUSE_S = 0.4
_LONGEST_WAIT_S = 1.5
_CACHE_SHARDS, _CACHE_SIZES = (1, 2, 4, 8), ("400kB", "600kB", "1MB")
_SLOW_S = (0.5, 4.0)  # that a slow move takes, about


class _Enough(Exception):
    """What a progress callback raises."""


class _Resizing:
    """What one of these processes does."""

    def __init__(self, worker: Worker, actor: Actor) -> None:
        self._worker = worker
        self._actor = actor
        self._rng = worker.rng
        self._words = actor.lane.words
        self._main = worker.setting.maps.main

    def at_once(self) -> None:
        """Resize, and wait until it is done."""
        self._resize(self._any())
        self._words[RESIZED] += 1

    def slowly(self) -> None:
        """Resize at a rate, in the background, and look for a while how far it is."""
        under_way = self._resize(self._any(), wait=False, rate=self._rate())
        if self._wait(under_way):
            self._words[RESIZED] += 1
        else:
            self._words[LEFT_HALF_WAY] += 1

    def taken_back(self) -> None:
        """Resize, and take that back, mostly half-way."""
        under_way = self._resize(self._any(), wait=False, rate=self._rate())
        self._wait(under_way)
        self._actor.call("resizing", under_way.cancel)
        self._words[CANCELLED] += 1

    def left(self) -> None:
        """Resize, and have enough of it half-way."""
        left = [int(self._rng.random() * 20)]

        def raise_soon(progress: Progress) -> None:
            left[0] -= 1
            if left[0] < 0 and not progress.is_over:
                raise _Enough

        try:
            self._resize(self._any(), progress=raise_soon)
            self._words[RESIZED] += 1
        except _Enough:
            self._words[LEFT_HALF_WAY] += 1

    def too_small(self) -> None:
        """Resize to where it does not fit, or just so."""
        try:
            self._resize(self._rng.choice(self._worker.setting.shapes.small))
            self._words[RESIZED] += 1
        except (MapFull, EntryTooLarge):
            self._words[TOO_SMALL] += 1

    def of_cache(self) -> None:
        """Resize the map that evicts, which others unlink meanwhile."""
        shards, size = self._rng.choice(_CACHE_SHARDS), self._rng.choice(_CACHE_SIZES)
        wait = self._rng.random() < 0.7
        self._actor.call("resizing", lambda: self._worker.setting.maps.cache.resize(
            shards=shards, size=size, wait=wait
        ))
        self._words[RESIZED] += 1

    def go_on(self) -> None:
        """Go on with what is under way."""
        self._actor.call("resizing", self._main.resize)

    def _any(self) -> Shape:
        return self._rng.choice(self._worker.setting.shapes.regular)

    def _rate(self) -> int | None:
        if self._rng.random() < 0.3:
            return None
        entries = self._worker.setting.ledger.filled + 100
        return max(1, int(entries / self._rng.uniform(*_SLOW_S)))

    def _resize(self, shape: Shape, **options: Any) -> Resize:
        found: Resize = self._actor.call("resizing", _resize, self._main, shape, options)
        return found

    def _wait(self, under_way: Resize) -> bool:
        done: bool = self._actor.call("resizing", under_way.wait,
                                      self._rng.random() ** 2 * _LONGEST_WAIT_S)
        return done


def _resize(main: ShmMap, shape: Shape, options: Any) -> Resize:
    """Resize to a shape. A value_size that it does not say is the one of the map as it was made."""
    return main.resize(shards=shape.shards, size=shape.size,
                       value_size=shape.value_size or VALUE_SIZE, **options)


_DEEDS = ((8, _Resizing.at_once), (4, _Resizing.slowly), (4, _Resizing.taken_back),
          (2, _Resizing.left), (3, _Resizing.too_small), (4, _Resizing.of_cache),
          (1, _Resizing.go_on))


def resize_now_and_then(worker: Worker) -> None:
    """Resize the map until told to stop; signals break it off now and then."""
    actor = worker.actor(0)
    actor.expect_signals()
    actor.attached()
    resizing = _Resizing(worker, actor)
    weights, deeds = zip(*_DEEDS, strict=True)
    while not worker.words[STOP]:
        pause(worker, worker.rng.random() * _LONGEST_PAUSE_S)
        try:
            if worker.rng.random() < 0.15:
                signal.setitimer(signal.ITIMER_REAL, 0.001 + worker.rng.random() ** 2 / 2)
            worker.rng.choices(deeds, weights)[0](resizing)
        except Interrupted:  # whoever uses the map goes on with it
            pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
