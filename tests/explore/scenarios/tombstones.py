"""Does a delete that leaves a tombstone look like any other, and does no old copy come between?

Each key has had an entry, and the map has room: so what an older copy brings is never written.
"""

from __future__ import annotations

from typing import Any

from .moves import MOVE, OTHER, SPLIT
from .scenario import GETS, LEASE, LEASED, LONG, LONGER, NEARS, PASS, SHORT, SNAP, A, B, Scenario

BRING = ("bring", "a")
DELETE = ("delete", "a")
STAYS = 1 << 40
_MAP: dict[str, Any] = {"before": (A, B), "slots": 9, "tombstones_ns": STAYS, "bound": 2}


def _scenario(name: str, *programs: Any, **more: Any) -> Scenario:
    return Scenario(f"tombstones: {name}", programs, **{**_MAP, **more})


TOMBSTONES = (
    _scenario("delete against get", (DELETE,), GETS),
    _scenario("delete of a chain against get", (DELETE, ("set", "c", LONG)), GETS,
              before=(("set", "a", LONGER), B)),
    _scenario("delete against a merge", (DELETE, ("get", "a")), (BRING, BRING)),
    _scenario("delete against delete", (DELETE,), (DELETE, BRING)),
    _scenario("delete against set", (DELETE, BRING), (A, ("get", "a"))),
    _scenario("delete against add", (DELETE, BRING), (("add", "a", SHORT), ("get", "a"))),
    _scenario("pop against a merge", (("pop", "a"),), (BRING, ("get", "a"))),
    _scenario("popitem against popitem", (("popitem", ""),), (("popitem", ""), BRING)),
    _scenario("clear against a merge", (("clear", ""),), (BRING, ("bring", "b"))),
    _scenario("delete against a list", (DELETE, BRING), (("list", ""),)),
    _scenario("delete against a snapshot", (DELETE, BRING), (SNAP,)),
    _scenario("delete beside a near cache", (DELETE, A), NEARS),
    _scenario("touch to an end against get", (("touch", "a", -1),), GETS),
    _scenario("in a map that evicts", (DELETE, BRING), GETS, evicts=True),
    _scenario("delete of what expires", (DELETE, ("get", "a")), (PASS, B), before=(LEASED, B)),
    _scenario("swept as it is overwritten", (A, ("get", "a")), (("unbury", ""),),
              before=(A, B, DELETE, ("advance", 2 * LEASE)), tombstones_ns=LEASE),
)
MOVED_TOMBSTONES = (
    _scenario("a split", (DELETE, BRING), (MOVE, BRING), **{**SPLIT, "shapes": ((2, 9, 40),)}),
    _scenario("other slots", (DELETE, BRING), (MOVE, ("get", "a")),
              **{**OTHER, "shapes": ((1, 9, 64),)}),
    _scenario("a split of what was deleted", (A, ("get", "a")), (MOVE, BRING, ("get", "a")),
              before=(A, B, DELETE), **{**SPLIT, "shapes": ((2, 9, 40),)}),
)
