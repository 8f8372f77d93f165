"""Faults planted in the protocol, each with the scenario that has to find it. The steps themselves
ask for them by name."""

from __future__ import annotations

from typing import NamedTuple

SNAPSHOT, DELETION = "other size, a snapshot", "other size, a snapshot beside a deletion"
ALONE, JOINED_ALONE = "other size, two movers alone", "join, two movers alone"
ON_ALONE = "on and on, two movers alone"
ON_READS, TAKEN = "on and on, a reader", "join, somebody takes whatever is there"
SPLIT_WAITS = "split, a reader waits for nobody"


class Mutant(NamedTuple):
    """A fault, and the scenario that finds it."""

    name: str
    scenario: str


MUTANTS = (
    # readers, near caches, writers
    Mutant("a hit does not look at MOVED", ON_READS),
    Mutant("a hit looks at MOVED before it reads, not after", ON_READS),
    Mutant("a miss does not look at MOVED", ON_READS),
    Mutant("a try that fails does not look at MOVED", SPLIT_WAITS),
    Mutant("a read with the lock does not look at MOVED", "there and back, a reader"),
    Mutant("a near cache does not look at MOVED", "other size, a near cache"),
    Mutant("a writer does not look at MOVED", "other size, a miss beside it"),
    Mutant("MOVED lies in a table that is used again", ON_READS),
    Mutant("all routes of a group are renewed at once",
           "join, one is read, then the other written"),
    Mutant("a joined shard is emptied before all of it has moved", TAKEN),
    # copying, and the cut
    Mutant("what is copied without the lock is not confirmed", "other size, a slot is used again"),
    Mutant("a copied entry is confirmed without MOVED", "two groups, two movers alone"),
    Mutant("TRACKING is not verified at the cut", SNAPSHOT),
    Mutant("TRACKING is a flag, no token", DELETION),
    Mutant("who begins again keeps its copy", DELETION),
    Mutant("MOVED comes before the last entries", SNAPSHOT),
    Mutant("STAMP is only that of the entries", "other size, two movers, two deaths"),
    Mutant("the hole comes before MOVED", ON_READS),
    Mutant("the hole takes the header with it", ON_READS),
    # deaths, two movers, names, the table
    Mutant("who takes over a lock of a joining does not look at the others", JOINED_ALONE),
    Mutant("the locks are freed before the last MOVED", JOINED_ALONE),
    Mutant("who helps does not see to every MOVED", "join, two movers and a newcomer"),
    Mutant("the names of segments have no token", ALONE),
    Mutant("a dead mover's segments are adopted", "other size, a slot is used again"),
    Mutant("a stopped mover's segments are removed", ALONE),
    Mutant("what is published is judged before its mover's death", ALONE),
    Mutant("the new shards keep their private names", ALONE),
    Mutant("the table goes on before the new shards have their names", ALONE),
    Mutant("the old is unlinked before the table goes on", ALONE),
    Mutant("the table is stored, not exchanged", ON_ALONE),
)

# What looks like a fault, and is none: versions never come back, so one that is the same after
# MOVED was looked at was the same then.
HARMLESS = (
    Mutant("a near cache looks at MOVED before the version", "other size, a near cache"),
    Mutant("a near cache looks at MOVED before the version", "there and back, a near cache"),
)
