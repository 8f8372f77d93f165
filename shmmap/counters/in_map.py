"""Counting in a map: exact for all processes of the machine.

A hit is one step: its key's entry is read, what it comes to is computed, and written if nobody has
written meanwhile, else it is tried again. No lock is held, so no death leaves one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..checks import Key, shown
from ..map import ShmMap
from ..operations.changes import Patience
from ..windows import ALGORITHMS, Found, Hit
from .counter import Rule, Step


class MapCounter:
    """See `counter.Counter`."""

    def __init__(self, m: ShmMap, rule: Rule) -> None:
        self.map = m
        self.rule = rule
        self._ask = ALGORITHMS[rule.algorithm]

    def tries(self, key: Key, cost: int) -> Iterator[Step | Hit]:
        """Count one hit."""
        patience: Patience | None = None
        place = self.rule.place(key)
        while True:
            state, now, version = self._read(place)
            found = self._ask(self.rule.rate, state, now, cost)
            if not found.allowed or self.map.cas(
                place, found.state, version, found.lasts_ns / 1e9
            ):
                break
            patience = patience or Patience(self.map, key, "a rate limiter")
            patience.once_more()
            yield Step.AGAIN
        yield _hit(found, cost)

    def look(self, key: Key, cost: int) -> tuple[Hit, Hit]:
        """Return what a hit would come to, and how it stands."""
        state, now, _ = self._read(self.rule.place(key))
        rate = self.rule.rate
        return _hit(self._ask(rate, state, now, cost), cost), _hit(
            self._ask(rate, state, now, 0), 0)

    def reset(self, key: Key) -> bool:
        """Forget the hits of a key."""
        return self.map.delete(self.rule.place(key))

    def _read(self, place: Key) -> tuple[bytes, int, int]:
        """Return a key's state, the time, and the state's version."""
        m: Any = self.map
        state, version = m.get_versioned(place, b"")
        if not isinstance(state, bytes):
            raise TypeError(f"map {m.name!r}, key {shown(place)} holds a {type(state).__name__}, "
                            "no rate: give the limiter another prefix=")
        return state, m._live.clock.now_ns(), version


def _hit(found: Found, cost: int) -> Hit:
    return Hit(cost * found.allowed, *found[1:4])
