"""Does anybody notice that a shard moves while it is read, written, listed, copied, emptied?

"a", "c" and "n" live in shard 0 of two, "b" and "d" in shard 1. Movers have no lease. Who has moved
the map goes on in it: what it writes there, nobody may miss in the old one.
"""

from __future__ import annotations

from typing import Any

from .scenario import (
    BOUNDED,
    GETS,
    LEASE,
    LEASED,
    LONG,
    LONGER,
    NEARS,
    PASS,
    SESSIONS,
    SHORT,
    SNAP,
    A,
    B,
    C,
    Operation,
    Scenario,
)

MOVE, BACK = ("resize", 0), ("resize", 1)
CANCEL, GO_ON, LET_GO, OPEN = ("cancel", ""), ("move", ""), ("let_go", ""), ("open", "")
INCR, POPITEM, CLEAR, LIST, LEN = (
    ("incr", "n"), ("popitem", ""), ("clear", ""), ("list", ""), ("len", ""))
Program = tuple[Operation, ...]
SPLIT: dict[str, Any] = {"shapes": ((2, 4, 40), (1, 6, 40))}
JOIN: dict[str, Any] = {"shards": 2, "shapes": ((1, 8, 40), (2, 4, 40))}
OTHER: dict[str, Any] = {"shapes": ((1, 5, 64), (1, 4, 40))}
TWO_GROUPS: dict[str, Any] = {"shards": 2, "shapes": ((4, 4, 40), (2, 5, 40))}
KINDS = {"split": SPLIT, "join": JOIN, "other size": OTHER}


def of_each(name: str, *programs: Program, **more: Any) -> tuple[Scenario, ...]:
    """Make the scenario in a map whose shard is split, or joined with another one, or has slots of
    another size afterwards."""
    return tuple(
        Scenario(f"{kind}, {name}", programs, **{"before": (A, B), "bound": 2, **more, **shape})
        for kind, shape in KINDS.items()
    )


MOVES: tuple[Scenario, ...] = (
    *of_each("a read", GETS, (MOVE, A)),
    *of_each("a miss", (("get", "c"), ("get", "c")), (MOVE, C)),
    *of_each("a write", (A, ("get", "a")), (MOVE, ("get", "a"))),
    *of_each("a new key", (C, ("get", "c")), (MOVE, ("get", "c"))),
    *of_each("a deletion", (("delete", "a"), ("get", "a")), (MOVE, ("add", "a", SHORT))),
    *of_each("a slot is used again", (("delete", "a"), ("set", "c", LONG)), (MOVE, ("get", "c"))),
    *of_each("in place", (INCR, INCR, ("get", "n")), (MOVE, INCR), before=(INCR, B)),
    *of_each("versions", (("get_versioned", "a"), A, ("get_versioned", "a")),
             (MOVE, ("cas", "a", SHORT))),
    *of_each("a version that stays", (("get_versioned", "a"), ("get_versioned", "a")), (MOVE,)),
    *of_each("a version of what was deleted", (A, ("get_versioned", "a"), ("delete", "a")),
             (MOVE, A, ("get_versioned", "a"))),
    *of_each("chains", (("get", "a"), ("set", "a", SHORT)), (MOVE, ("get", "a")),
             before=(("set", "a", LONGER),)),
    *of_each("a near cache", (*NEARS, ("near", "a")), (MOVE, A)),
    *of_each("a near cache, then it is unmapped", (*NEARS, LET_GO, ("near", "a")), (MOVE, A)),
    *of_each("another is read, then what is held is unmapped",
             (("near", "a"), ("get", "b"), LET_GO, ("near", "a")), (MOVE, A)),
    *of_each("all are counted, then what is held is unmapped",
             (("near", "a"), LEN, LET_GO, ("near", "a")), (MOVE, A)),
    *of_each("a session", SESSIONS, (MOVE, A)),
    *of_each("a bounded read", (BOUNDED, BOUNDED), (MOVE, ("set", "a", SHORT, LEASE), PASS)),
    *of_each("deadlines", (LEASED, ("get", "a"), ("touch", "a", 3 * LEASE)), (MOVE, PASS, (
        "get", "a")), before=(LEASED, B)),
    *of_each("it expires", (("get", "a"), PASS, ("add", "a", SHORT)), (MOVE, ("get", "a")),
             before=(LEASED, B)),
    *of_each("a first deadline", (("touch", "a", LEASE), PASS, ("get", "a")), (MOVE, (
        "get", "a"))),
    *of_each("a pop", (("pop", "a"), ("get", "a")), (MOVE, ("pop", "a"))),
    *of_each("any entry is taken", (POPITEM, POPITEM), (MOVE, ("get", "a"), ("get", "b"))),
    *of_each("the last entry is taken", (POPITEM, POPITEM), (MOVE, C), before=(A,)),
    *of_each("all are removed", (CLEAR, ("get", "b")), (MOVE, ("get", "a"), C)),
    *of_each("a listing", (LIST,), (MOVE, C)),
    *of_each("a count", (LEN,), (MOVE, C)),
    *of_each("a sweep", (("sweep", ""), ("add", "a", SHORT)), (PASS, MOVE, ("get", "a")),
             before=(LEASED, B)),
    *of_each("a repair", (("repair", ""), ("get", "a")), (MOVE, A)),
    *of_each("a snapshot", (SNAP,), (MOVE, A, B), bound=1),
    *of_each("a newcomer", (OPEN, ("get", "a"), A), (MOVE, ("get", "a"))),
    *of_each("a thread of the mover's process", (*GETS, A), (MOVE, A), homes=(0, 0)),
    *of_each("a thread reads what the mover's unmaps", GETS, (MOVE, A, LET_GO), homes=(0, 0)),
    *of_each("a near cache of the mover's process", (*NEARS, A), (MOVE, A), homes=(0, 0)),
    *of_each("evictions", (("set", "d", LONG), ("get", "a")), (MOVE, C), before=(A, B, C),
             evicts=True),
    *of_each("read and written", GETS, (A, B), (MOVE,), bound=1),
    *of_each("a near cache, written", NEARS, (A,), (MOVE,), bound=1),
    *of_each("two add", (INCR, INCR), (INCR,), (MOVE,), before=(INCR,), bound=1),
    *of_each("there and back", GETS, (MOVE, BACK, A)),
    *of_each("there and back, a near cache", (*NEARS, ("near", "a")), (MOVE, BACK, A)),
    *of_each("there and back, written", (A, ("get", "a")), (MOVE, BACK, ("get", "a"))),
    *of_each("there and back, listed", (LIST,), (MOVE, BACK)),
    *of_each("two movers", (MOVE, ("get", "a")), (MOVE, A)),
    *of_each("two movers, written", (MOVE,), (MOVE,), (A, ("get", "a")), bound=1),
    *of_each("two movers, a newcomer", (MOVE,), (MOVE,), (OPEN, ("get", "a"), ("get", "b")),
             bound=1),
    *of_each("two movers, there and back", (MOVE, BACK), (GO_ON, A), bound=1),
    *of_each("taken back", (MOVE, ("get", "a")), (CANCEL, A), bound=1),
    *of_each("a snapshot, written", (SNAP,), (MOVE,), (A, B), bound=1),
    Scenario("two groups, read and written", ((("get", "a"), ("get", "b"), A, B), (MOVE, A, B)),
             (A, B), bound=2, **TWO_GROUPS),
    Scenario("two groups, listed", ((LIST,), (MOVE, C)), (A, B), bound=2, **TWO_GROUPS),
    Scenario("two groups, counted", ((LEN,), (MOVE,)), (A, B), bound=2, **TWO_GROUPS),
    Scenario("two groups, taken back half-way", ((MOVE,), (CANCEL, A), (B, ("get", "a"))), (A, B),
             bound=1, **TWO_GROUPS),
    Scenario("two groups, taken back, a near cache", (NEARS, (MOVE, A), (CANCEL,)), (A, B),
             bound=1, **TWO_GROUPS),
    Scenario("there is no room", (GETS, (MOVE, A)), (A, C), bound=2, shapes=((1, 2, 40),)),
    Scenario("two groups, no room in the second", (
        (("get", "b"), A), (MOVE, ("get", "a"), ("get", "b")),
    ), (A, B, ("set", "d", LONG)), bound=2, shards=2, shapes=((2, 3, 40),)),
    Scenario("join, three are at it", ((A, INCR), (POPITEM, LEN), (MOVE,)), (A, B, INCR), bound=0,
             **JOIN),
    Scenario("everything at once, moving", (
        (("set", "a", LONG), INCR, LIST), (MOVE, BACK, ("get", "n")),
        (("delete", "a"), ("set", "b", SHORT, LEASE), PASS, ("get", "n"), LEN),
    ), (A, INCR), bound=0, **JOIN),
    Scenario("everything at once, moving, evicting", (
        (("set", "a", LONG), C, ("get", "b")), (MOVE, BACK, ("get", "a")),
        (("set", "d", SHORT), ("cas", "b", SHORT), POPITEM),
    ), (A, B, C), evicts=True, bound=0, **JOIN),
)
