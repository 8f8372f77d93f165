"""What do writers that compete for the last slots lose: nothing, or only what a map may evict?"""

from __future__ import annotations

from .scenario import GETS, LONG, LONGER, SHORT, A, B, C, Scenario

ROOM = (
    Scenario("evict", ((("get", "a"), ("get", "d")), (("set", "d", SHORT),)), (A, B, C),
             evicts=True, never_full=True),
    Scenario("evict for a chain, twice", (
        (("get", "a"),), (("set", "d", LONG), ("set", "a", SHORT)),
    ), (A, B, C), evicts=True, bound=2, never_full=True),
    Scenario("evict against evict", ((("set", "d", SHORT),), (("set", "e", SHORT),)), (A, B, C),
             evicts=True, bound=2, never_full=True),
    Scenario("evict for an own longer value", ((("get", "b"),), (("set", "c", LONG),)),
             (A, B, C), evicts=True, never_full=True),
    Scenario("evict an own old value", ((("get", "a"),), (("set", "a", LONGER),)),
             (("set", "a", LONG),), evicts=True, never_full=True),
    Scenario("full map", ((("set", "d", SHORT), ("get", "d")), (("delete", "a"),)), (A, B, C)),
    Scenario("overwrite in a full map", (GETS, (A, A)), (A, B, C), never_full=True),
    Scenario("two want the reserve", ((A,), (B,)), (A, B, C), never_full=True),
    Scenario("long over short in a full map", ((("set", "a", LONG),), (("get", "a"), B)),
             (A, B, C)),
    Scenario("incr in a full map", ((("incr", "n"),), (("incr", "n"), B)), (
        ("incr", "n"), B, C), never_full=True),
)
