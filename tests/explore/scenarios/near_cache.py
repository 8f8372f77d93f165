"""Does a near cache answer as freshly as each consistency promises, whatever others do meanwhile?

Processes of their own, and threads of one process that share its near cache.
"""

from __future__ import annotations

from .scenario import (
    BOUNDED,
    GETS,
    LEASE,
    LEASED,
    LONGER,
    NEARS,
    PASS,
    SESSIONS,
    SHORT,
    A,
    B,
    C,
    Scenario,
)

NEAR_CACHE = (
    Scenario("near cache and set", ((("near", "a"), ("near", "a"), ("near", "a")), (A,),
                                    (("get", "a"), ("get", "a"))), (A,), bound=2),
    Scenario("near cache and delete", (
        (*NEARS, ("contains", "a"), ("near", "a")), (("delete", "a"), B), (("get", "a"),),
    ), (A,), bound=2),
    Scenario("near cache, its slot is used again", (NEARS, (("delete", "a"), B, A)), (A,)),
    Scenario("near cache, its slot becomes a continuation", (
        NEARS, (("delete", "b"), ("delete", "a"), ("set", "b", LONGER)),
    ), (A, B)),
    Scenario("near cache and touch", (NEARS, (("touch", "a", LEASE), PASS)), (A,)),
    Scenario("near cache, it expires", (NEARS, (PASS, ("add", "a", SHORT))), (LEASED,)),
    Scenario("near cache, a longer lease", (NEARS, (("touch", "a", 3 * LEASE), PASS)), (LEASED,)),
    Scenario("near cache and incr", (
        (("near", "n"), ("near", "n")), (("incr", "n"), ("incr", "n")),
    ), (("incr", "n"),)),
    Scenario("near cache, own writes", (
        (("near", "a"), A, ("near", "a"), ("touch", "a"), ("near", "a")), (A,),
    ), (A,), bound=2),
    Scenario("near cache and clear", ((*NEARS, ("near", "a")), (("clear", ""),), GETS), (A,),
             bound=2),
    Scenario("near cache and a rebuild", (NEARS, (A,), (("repair", ""),)), (A,), bound=1),
    Scenario("near cache and evict", ((("near", "a"), *NEARS), (("set", "d", SHORT),)), (A, B, C),
             evicts=True, bound=2, never_full=True),
    Scenario("near cache, a death, a repair", (
        (A,), NEARS, (("set", "b", SHORT),), (("get", "a"),),
    ), (B, A, A), bound=0),
    Scenario("session and set", ((*SESSIONS, ("session", "a")), (A, A)), (A,)),
    Scenario("session and delete", (
        (*SESSIONS, ("contains", "a"), ("session", "a")), (("delete", "a"), A),
    ), (A,), bound=2),
    Scenario("session, own writes", (
        (("session", "a"), A, *SESSIONS), (A,),
    ), (A,), bound=2),
    Scenario("session, listed between", (
        (("session", "a"), ("list", ""), ("session", "a")), (A, A),
    ), (A,), bound=2),
    Scenario("session, it expires", (SESSIONS, (PASS, A)), (LEASED,)),
    Scenario("bounded and set", (
        (BOUNDED, BOUNDED, BOUNDED), (A, ("advance", LEASE), ("advance", 1)),
    ), (A,), bound=2),
    Scenario("bounded and delete", (
        (BOUNDED, BOUNDED, ("contains", "a"), BOUNDED), (("delete", "a"), PASS),
    ), (A,), bound=2),
    Scenario("bounded, own writes", ((BOUNDED, A, BOUNDED, ("delete", "a"), BOUNDED), (A,)), (A,),
             bound=2),
    Scenario("bounded, it expires", (
        (("bounded", "a", 5 * LEASE), ("bounded", "a", 5 * LEASE)), (PASS,),
    ), (LEASED,)),
    Scenario("two threads, one writes", ((BOUNDED, BOUNDED), (A,)), (A,), evicts=True,
             homes=(0, 0)),
    Scenario("two threads, a session", (SESSIONS, SESSIONS, (A, A)), (A,), evicts=True, bound=2,
             homes=(0, 0, 1)),
    Scenario("two threads, another process writes", ((BOUNDED,), (BOUNDED, BOUNDED), (A,)), (A,),
             evicts=True, bound=2, homes=(0, 0, 1)),
    Scenario("two threads, another process deletes", (
        (BOUNDED, BOUNDED), (("contains", "a"), BOUNDED), (("delete", "a"),),
    ), (A,), evicts=True, bound=2, homes=(0, 0, 1)),
)
