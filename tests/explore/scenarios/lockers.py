"""Is there ever one holder of a named lock at a time, whoever dies and whichever lease runs out?

And do tokens rise, and does nothing stay with the dead?
"""

from __future__ import annotations

from ..simulator.lock_world import Lockers
from .scenario import LEASE

LOCK, UNLOCK = ("lock", "a"), ("unlock", "a")
LEASED, OVER, LONG = ("lock", "a", LEASE), ("advance", 2 * LEASE), 10 * LEASE
KEEP = ("lock", "a", LONG)  # and never left
BOTH = LOCK, UNLOCK
LOCKERS = (
    Lockers("two want one named lock", (BOTH, BOTH)),
    Lockers("twice each", ((*BOTH, *BOTH), (*BOTH, *BOTH))),
    Lockers("two find a holder dead", (BOTH, BOTH), dead="a"),
    Lockers("a sweep and another find a holder dead", (BOTH, (("sweep",),)), dead="a"),
    Lockers("one keeps what another wants", (BOTH, (KEEP,))),
    Lockers("one keeps what a dead holder had", (BOTH, (KEEP,)), dead="a"),
    Lockers("one keeps what a sweep finds dead", ((KEEP,), (("sweep",),)), dead="a"),
    Lockers("one keeps what another's lease was for", ((LEASED, UNLOCK), (OVER, KEEP))),
    Lockers("one keeps what another extends", (
        (LEASED, ("extend", "a", LONG), UNLOCK), (OVER, KEEP),
    )),
    Lockers("three want one named lock", (BOTH, BOTH, BOTH), bound=1),
    Lockers("two named locks", ((LOCK, ("lock", "b"), ("unlock", "b"), UNLOCK), BOTH,
                                (("lock", "b"), ("unlock", "b"))), bound=1),
    Lockers("a lease runs out", ((LEASED, OVER, UNLOCK), BOTH)),
    Lockers("a lease runs out as it is left", ((LEASED, UNLOCK), (OVER, *BOTH))),
    Lockers("leases one after the other", (
        (LEASED, OVER, UNLOCK), (LEASED, OVER, UNLOCK), BOTH,
    ), bound=1),
    Lockers("a lease is extended", (
        (LEASED, ("extend", "a", LONG), UNLOCK), (OVER, *BOTH),
    )),
    Lockers("its holder leaves as its lease is renewed", (
        (LEASED, UNLOCK), (("renew", 0, "a", LONG),), BOTH,
    ), bound=1),
    Lockers("its lease is over as it is renewed", (
        (LEASED, OVER, UNLOCK), (("renew", 0, "a", LONG),), BOTH,
    ), bound=1),
    Lockers("a sweep comes by", (BOTH, (("sweep",),), BOTH), bound=1),
    Lockers("a sweep and leases", (
        (LEASED, OVER, UNLOCK), (("sweep",),), BOTH,
    ), bound=1),
)
