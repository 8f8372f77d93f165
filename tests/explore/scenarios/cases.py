"""Does anybody notice an operation that was broken off, whichever it was and wherever?

Every kind of operation, each in a map where it takes another way; and what others do then.
"""

from __future__ import annotations

from typing import NamedTuple

from .scenario import LEASE, LONG, LONGER, SHORT, Operation, Scenario

TTL_NS = 2_000
FILLED = (("set", "a", SHORT), ("set", "b", SHORT))
LEASED = (("set", "a", SHORT, TTL_NS), ("set", "b", SHORT))


class Case(NamedTuple):
    """An operation in a map that others have filled."""

    name: str
    operation: Operation
    before: tuple[Operation, ...] = FILLED
    evicts: bool = False
    shards: int = 1
    tombstones_ns: int = 0
    slots: int = 4


CASES = (
    Case("get", ("get", "a")),
    Case("get chained", ("get", "a"), (("set", "a", LONGER),)),
    Case("get_versioned", ("get_versioned", "a")),
    Case("list", ("list", "")),
    Case("set new", ("set", "c", SHORT)),
    Case("set new, chained", ("set", "c", LONG), (("set", "a", SHORT),)),
    Case("set first of a map", ("set", "a", LONGER), ()),
    Case("overwrite", ("set", "a", SHORT)),
    Case("overwrite, longer", ("set", "a", LONG)),
    Case("overwrite, shorter", ("set", "a", SHORT), (("set", "a", LONGER),)),
    Case("overwrite in a full map", ("set", "a", SHORT), (*FILLED, ("set", "c", SHORT))),
    Case("set in a full map", ("set", "d", SHORT), (*FILLED, ("set", "c", SHORT))),
    Case("set with ttl", ("set", "a", SHORT, TTL_NS)),
    Case("overwrite of a ttl", ("set", "a", SHORT), LEASED),
    Case("set expired at once", ("set", "a", SHORT, -1)),
    Case("set makes room from expired", ("set", "c", LONG),
         (*LEASED, ("set", "c", SHORT), ("advance", 2 * TTL_NS))),
    Case("set reclaims some", ("set", "b", SHORT), (*LEASED, ("advance", 2 * TTL_NS))),
    Case("set over expired", ("set", "a", SHORT), (*LEASED, ("advance", 2 * TTL_NS))),
    Case("add", ("add", "c", SHORT)),
    Case("add over expired", ("add", "a", SHORT), (*LEASED, ("advance", 2 * TTL_NS))),
    Case("add refused", ("add", "a", SHORT)),
    Case("replace", ("replace", "a", LONG)),
    Case("cas", ("cas", "a", SHORT)),
    Case("merge", ("merge", "c", SHORT)),
    Case("merge over an older one", ("merge", "a", LONG, TTL_NS)),
    Case("merge over expired", ("merge", "a", SHORT), (*LEASED, ("advance", 2 * TTL_NS))),
    Case("merge refused", ("merge", "a", SHORT, None, 1)),
    Case("delete", ("delete", "a")),
    Case("delete chained", ("delete", "a"), (("set", "a", LONGER),)),
    Case("delete of a ttl", ("delete", "a"), LEASED),
    Case("delete of nothing", ("delete", "c")),
    Case("pop", ("pop", "a")),
    Case("incr new", ("incr", "c")),
    Case("incr", ("incr", "n"), (("incr", "n"), *FILLED)),
    Case("apply", ("apply", "n"), (("incr", "n"), *FILLED)),
    Case("apply of a new key", ("apply", "n")),
    Case("edit", ("edit", "n"), (("incr", "n"), *FILLED)),
    Case("incr of floats", ("incr", "n", 0.5), (("incr", "n"), *FILLED)),
    Case("get_and_touch", ("get_and_touch", "a", TTL_NS)),
    Case("get_and_touch chained", ("get_and_touch", "a", 3 * TTL_NS),
         (("set", "a", LONGER, TTL_NS),)),
    Case("touch: first ttl", ("touch", "a", TTL_NS)),
    Case("touch: another ttl", ("touch", "a", 3 * TTL_NS), LEASED),
    Case("touch: no ttl", ("touch", "a"), LEASED),
    Case("touch: no ttl, had none", ("touch", "a")),
    Case("touch: expired at once", ("touch", "a", -1), LEASED),
    Case("popitem", ("popitem", "")),
    Case("clear", ("clear", ""), (*LEASED, ("set", "c", LONG))),
    Case("sweep", ("sweep", ""), (*LEASED, ("set", "c", SHORT, TTL_NS), ("advance", 2 * TTL_NS))),
    Case("sweep by age", ("aged", ""), (*LEASED, ("advance", 1))),
    Case("repair", ("repair", ""), (*LEASED, ("set", "c", LONG), ("delete", "b"))),
    Case("evict", ("set", "d", SHORT), (*FILLED, ("set", "c", SHORT)), True),
    Case("evict for a long value", ("set", "d", LONG), (*FILLED, ("set", "c", SHORT)), True),
    Case("evict an own old value", ("set", "a", LONGER), (("set", "a", LONG),), True),
    Case("snapshot", ("snapshot", ""), (*LEASED, ("set", "c", LONG)), shards=2),
    Case("near", ("near", "a")),
    Case("session", ("session", "a")),
    Case("bounded", ("bounded", "a", TTL_NS)),
    Case("hit, in a map that evicts", ("get", "a"), FILLED, True),
)
# Each key has had an entry. Whatever dies where: either that is there, or a tombstone of it
BURIED = {"tombstones_ns": 1 << 40, "slots": 9}
BURIALS = (
    Case("delete", ("delete", "a"), **BURIED),
    Case("delete chained", ("delete", "a"), (("set", "a", LONGER), ("set", "b", SHORT)), **BURIED),
    Case("delete of a ttl", ("delete", "a"), (("set", "a", SHORT, 1 << 40), FILLED[1]), **BURIED),
    Case("delete, in a map that evicts", ("delete", "a"), evicts=True, **BURIED),
    Case("delete again", ("delete", "a"), (*FILLED, ("delete", "a")), **BURIED),
    Case("pop", ("pop", "a"), **BURIED),
    Case("popitem", ("popitem", ""), **BURIED),
    Case("set expired at once", ("set", "a", SHORT, -1), **BURIED),
    Case("touch: expired at once", ("touch", "a", -1), **BURIED),
    Case("clear", ("clear", ""), (*FILLED, ("set", "c", LONG)), **BURIED),
    Case("overwrite of a tombstone", ("set", "a", LONG), (*FILLED, ("delete", "a")), **BURIED),
    Case("merge refused", ("bring", "a"), (*FILLED, ("delete", "a")), **BURIED),
    Case("sweep of what stays", ("unbury", ""), (*FILLED, ("delete", "a")), **BURIED),
    Case("repair", ("repair", ""), (*FILLED, ("delete", "a"), ("delete", "b")), **BURIED),
)
MERGER: tuple[Operation, ...] = (("bring", "a"), ("get", "a"), ("bring", "b"), ("set", "c", SHORT))
READER: tuple[Operation, ...] = (
    ("get", "a"), ("get", "c"), ("list", ""), ("set", "b", LONG), ("get", "a"))
WRITER: tuple[Operation, ...] = (
    ("set", "b", SHORT), ("get", "a"), ("get", "c"), ("incr", "n"), ("delete", "a"))
SURVIVORS = {"a reader": READER, "a writer": WRITER}
SECOND: dict[str, tuple[Operation, ...]] = {  # who takes over and repairs, and dies in turn
    "a reader": (("get", "c"), ("list", "")), "a writer": (("set", "b", SHORT),)}


def scenario_of(case: Case, *others: tuple[Operation, ...]) -> Scenario:
    """Make a scenario: the case's operation, then what the others do."""
    return Scenario(case.name, ((case.operation,), *others), case.before, case.slots,
                    evicts=case.evicts, shards=case.shards, tombstones_ns=case.tombstones_ns)


NEAR_READS: dict[str, Operation] = {
    "near": ("near", "a"), "session": ("session", "a"), "bounded": ("bounded", "a", LEASE),
}
THIRD: tuple[Operation, ...] = (("get", "a"), ("get", "c"), ("set", "b", 8), ("get", "a"))


def beside_near(case: Scenario, read: Operation) -> Scenario:
    """Make the scenario: the case's operation, the reader, the third process."""
    return case._replace(
        name=f"{case.name}, beside {read[0]}",
        programs=(case.programs[0], (read, read, read, ("get", "a"), read), THIRD),
    )
