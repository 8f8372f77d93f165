"""What is known of the age of the machine's copies: one entry of the map, and how to read it.

    since    the time from which on every change is told of: a copy that was asked for before may
             be old, and nobody knows
    proven   the time up to which all that had changed by then has been taken out of the map
    floor    a copy that was asked for before is wrong, or may be older than this machine's own
             writes: it is given to nobody

They are nanoseconds of the machine's clock since boot, and rise. A copy carries `asked`, when the
store was asked for it. It was right at `asked`; and at `proven`, too, if it was asked for at
`since` or later, and still stands: see `as_of`. What was said once stays true, so it does not
matter who writes late, or who still goes by what it knew: that makes copies look older than they
are.

They are said of one map: the entry has the number of its making, too, since the changes that one
map has missed are not those of the next one of its name.

Where the store is of several servers, `sources` says, too, which of them are listened to. A copy
that another one has given is not kept: that one may have been replaced, and not know it yet.

Whatever may have lost a change has `since` rise: a connection that was lost, a listener that was
stopped or killed, a failover. What is known to be wrong has `floor` rise: all of the store was
emptied, or a copy could not be taken out of the map after a write.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..checks import Key
from ..map import ShmMap
from ..memory._clock_cy import Clock
from .store_keys import RESERVED

NEVER = 1 << 62
_SHORT, _LONG = 4, 6  # items of the entry, without and with sources
Sources = tuple[()] | tuple[int, tuple[str, ...]]


class Known(NamedTuple):
    """See the module. Before anything was told of: nothing is right but when it was asked for.

    To be read before the copy that is judged by it. A copy that was looked up first may have been
    taken out since, and the proof that is read then be one of that.
    """

    since: int = NEVER
    proven: int = 0
    floor: int = NEVER

    def as_of(self, asked: int) -> int:
        """Return the latest time at which a copy is known to have been right."""
        return self.proven if self.since <= asked < self.proven else asked


class Freshness:
    """What is known of one tier's copies in a map. `owner`: what tells it from another's."""

    def __init__(self, m: ShmMap, owner: Key) -> None:
        self._map = m
        self.now = Clock().now_ns
        self.place: Key = (RESERVED, "state", owner)

    @property
    def nonce(self) -> int:
        """The number of the map's making."""
        return self._map._live.nonce

    def read(self) -> Known:
        """Return what the map says."""
        return known_in(self._map.get(self.place), self.nonce) or Known()

    def sources(self) -> frozenset[str]:
        """Return the servers that are listened to; none where nobody knows."""
        found = self._map.get(self.place)
        known = known_in(found, self.nonce)
        return frozenset() if known is None or len(found) != _LONG else frozenset(found[5])

    def publish(
        self, nonce: int, since: int, proven: int = 0, floor: int = 0, sources: Sources = ()
    ) -> None:
        """Say more of the map of that making; what was said before stays. Where nothing is said,
        what had been is forgotten (the entry was evicted, or the map cleared): then nobody knows
        what was wrong, and all copies of before now are.

        `sources`: since when who is listened to; what began later counts."""
        while True:
            found, version = self._map.get_versioned(self.place)
            known = known_in(found, nonce)
            risen = map(max, known or Known(0, 0, self.now()), (since, proven, floor))
            there = tuple(found[4:]) if known is not None else ()
            told = max(there, sources, key=lambda one: one[0] if one else 0)
            if self._map.cas(self.place, (*risen, nonce, *told), version, None):
                return

    def distrust(self, now: int) -> None:
        """Have nobody be given a copy that was asked for before now."""
        self.publish(self.nonce, now, floor=now)


def known_in(found: Any, nonce: int) -> Known | None:
    """Return what an entry says of the map of that making; None: nothing that is ours."""
    if isinstance(found, (tuple, list)) and len(found) in (_SHORT, _LONG) and (
        [type(one) for one in found[:4]] == [int] * 4 and found[3] == nonce
    ):
        return Known(*found[:3])
    return None
