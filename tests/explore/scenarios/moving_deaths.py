"""Who goes on where a mover has died, and what a writer was at that dies beside one."""

from __future__ import annotations

from .moves import (
    BACK,
    CANCEL,
    CLEAR,
    GO_ON,
    INCR,
    JOIN,
    KINDS,
    LEN,
    LIST,
    OPEN,
    POPITEM,
    TWO_GROUPS,
)
from .scenario import LEASE, LEASED, LONG, LONGER, PASS, SHORT, SNAP, A, B, C, Operation, Scenario

BEGIN, GET_A, GET_B = ("begin", 0), ("get", "a"), ("get", "b")
FILLED: tuple[Operation, ...] = (A, B, INCR, BEGIN)
SURVIVOR: tuple[Operation, ...] = (
    GET_A, B, INCR, LEN, LIST, GO_ON, GET_A, GET_B, ("delete", "b"), C, ("get", "c"))
NEWCOMER: tuple[Operation, ...] = (OPEN, GET_B, A, POPITEM, GO_ON, GET_A)
READERS: tuple[Operation, ...] = (GET_A, GET_B, ("near", "a"), SNAP, A, ("near", "a"))

MOVERS_DIE = (
    *(Scenario(f"{kind}, its mover dies", ((GO_ON,), SURVIVOR), FILLED, **shape)
      for kind, shape in KINDS.items()),
    *(Scenario(f"{kind}, its mover dies, a newcomer", ((GO_ON,), NEWCOMER), FILLED, **shape)
      for kind, shape in KINDS.items()),
    *(Scenario(f"{kind}, its mover dies, one reads", ((GO_ON,), READERS), FILLED, **shape)
      for kind, shape in KINDS.items()),
    Scenario("two groups, their mover dies", ((GO_ON,), SURVIVOR), FILLED, **TWO_GROUPS),
    Scenario("a mover of chains and deadlines dies", (
        (GO_ON,), (GET_A, PASS, GET_B, ("set", "a", LONG), GO_ON, GET_A, ("get", "c")),
    ), (("set", "a", LONGER), ("set", "b", SHORT, LEASE), ("set", "c", SHORT, 5 * LEASE), BEGIN),
        **JOIN),
    Scenario("a mover that evicts dies", (
        (GO_ON,), (("set", "d", LONG), GET_A, GO_ON, ("get", "c"), ("set", "e", LONG)),
    ), (A, B, C, BEGIN), evicts=True, shapes=((1, 3, 40),)),
    Scenario("who takes a change back dies", ((CANCEL,), SURVIVOR), FILLED, **TWO_GROUPS),
    Scenario("who takes half a change back dies", ((CANCEL,), SURVIVOR), (
        *FILLED, ("move_one", "")), **TWO_GROUPS),
    Scenario("who begins a change dies", ((("resize", 0),), SURVIVOR), (A, B, INCR), **JOIN),
    Scenario("who moves there and back dies", ((GO_ON, BACK), SURVIVOR), FILLED, **JOIN),
)
TWO_DIE = tuple(
    Scenario(f"{kind}, two movers die", ((GO_ON,), (GO_ON,), SURVIVOR), FILLED, **shape)
    for kind, shape in KINDS.items()
)
_DYING: dict[str, Operation] = {
    "overwrites": A, "writes a chain": ("set", "a", LONG), "writes a new key": C,
    "deletes": ("delete", "b"), "adds in place": INCR, "touches": ("touch", "b", LEASE),
    "takes any": POPITEM, "removes all": CLEAR, "takes a snapshot": SNAP, "lists": LIST,
    "counts": LEN, "sweeps": ("sweep", ""), "repairs": ("repair", ""), "reads": GET_A,
    "takes it back": CANCEL,
}
_GOES_ON: tuple[Operation, ...] = (GO_ON, GET_A, GET_B, ("get", "n"))
HALF_BACK = Scenario("two groups, one takes half of it back and dies", ((CANCEL,), _GOES_ON), (
    *FILLED, ("move_one", "")), **TWO_GROUPS)
WRITERS_DIE = (
    *(Scenario(f"{kind}, one {what} and dies", ((operation,), _GOES_ON),
               (LEASED, B, INCR, PASS, BEGIN) if what == "sweeps" else FILLED, **shape)
      for kind, shape in KINDS.items() for what, operation in _DYING.items()),
    HALF_BACK,
)
