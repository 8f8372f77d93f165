"""Of two writes of one key, does the right one win, and does each writer learn what it did?"""

from __future__ import annotations

from .scenario import GETS, LEASE, LEASED, LONG, PASS, SHORT, A, B, C, Scenario

WRITES = (
    Scenario("cas against cas", ((("cas", "a", SHORT),), (("cas", "a", SHORT),)), (A,),
             bound=2),
    Scenario("cas against touch", ((("cas", "a", SHORT),), (("touch", "a"), ("get", "a"))), (A,)),
    Scenario("merge against set", ((("merge", "a", SHORT), ("get", "a")), (A, ("get", "a"))), (A,)),
    Scenario("merge against delete", ((("merge", "a", SHORT),), (("delete", "a"), ("get", "a"))),
             (A,)),
    Scenario("merge against merge", ((("merge", "a", LONG),), (("merge", "a", SHORT),),
                                     (("get", "a"), ("get", "a"))), (A,), bound=2),
    Scenario("merge of a new key against add", ((("merge", "a", SHORT),), (("add", "a", SHORT),))),
    Scenario("merge as it expires", (
        (("merge", "a", SHORT, 3 * LEASE, 1), ("get", "a")), (PASS, ("get", "a")),
    ), (LEASED,)),
    Scenario("merge, long, against touch", (
        (("merge", "a", LONG), ("get", "a")), (("touch", "a", LEASE), ("get", "a")),
    ), (A,), bound=2),
    Scenario("merge in a full map", ((("merge", "d", SHORT), ("merge", "a", SHORT)),
                                     (("delete", "b"), ("get", "a"))), (A, B, C)),
    Scenario("incr against incr", ((("incr", "a"), ("get", "a")), (("incr", "a"),)), (
        ("incr", "a"),)),
    Scenario("incr of a new key", ((("incr", "a"),), (("incr", "a"),))),
    Scenario("get and incr", (GETS, (("incr", "a"), ("incr", "a"))), (("incr", "a"),)),
    Scenario("add against add", ((("add", "a", SHORT),), (("add", "a", SHORT),))),
    Scenario("replace against delete", (
        (("replace", "a", SHORT),), (("delete", "a"),),
    ), (A,)),
    Scenario("pop against pop", ((("pop", "a"),), (("pop", "a"),)), (A,)),
    Scenario("pop against set, long", ((("pop", "a"),), (("set", "a", LONG),)), (
        ("set", "a", LONG),)),
    Scenario("clear against get and set", (
        (("get", "a"), ("get", "b")), (("clear", ""), A),
    ), (A, B)),
    Scenario("clear against set", ((("clear", ""),), (A,)), (A,)),
    Scenario("popitem against popitem", ((("popitem", ""),), (("popitem", ""),)), (A, B)),
    Scenario("popitem against set", ((("popitem", ""),), (A,)), (A,)),
)
