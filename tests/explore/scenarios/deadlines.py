"""Does an entry end at its deadline, for everybody, and does only what has expired make room?"""

from __future__ import annotations

from .scenario import GETS, LEASE, LEASED, LONG, PASS, SHORT, A, B, Scenario

DEADLINES = (
    Scenario("touch gives a first deadline", (GETS, (("touch", "a", LEASE), PASS)), (A,)),
    Scenario("touch takes the deadline away", (GETS, (("touch", "a"), PASS)), (LEASED,)),
    Scenario("touch moves the deadline", (GETS, (("touch", "a", 3 * LEASE), PASS)), (LEASED,)),
    Scenario("it expires", (GETS, (PASS, ("add", "a", SHORT))), (LEASED,)),
    Scenario("a lease is overwritten as it expires", (
        (("get", "a"),), (PASS,), (A,),
    ), (LEASED,), bound=2),
    Scenario("a writer reclaims", (GETS, (PASS, B)), (LEASED, ("set", "c", SHORT))),
    Scenario("room is made from expired", (
        (("get", "a"), ("get", "d")), (PASS, ("set", "d", LONG)),
    ), (LEASED, B), never_full=True),
    Scenario("sweep against set", ((("sweep", ""),), (A,)), (LEASED, PASS)),
    Scenario("sweep against get", (GETS, (PASS, ("sweep", ""), B)), (LEASED,)),
    Scenario("sweep by age against set", ((("aged", ""),), (A,)), (A, PASS)),
)
