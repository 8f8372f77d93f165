"""Does a read ever see half of a write, take what is gone for there, or go back behind what it saw?

One reads, looks, or lists, while another writes, deletes, or builds the index anew.
"""

from __future__ import annotations

from .scenario import GETS, LONG, LONGER, SHORT, A, B, C, Scenario

READS = (
    Scenario("get and set", (GETS, (A, A)), (A,)),
    Scenario("a slot is used again", ((("get", "a"),), (A, A)), (A,), bound=4),
    Scenario("get and set of a new key", (GETS, (A,))),
    Scenario("get, long becomes short", (GETS, (A, A)), (("set", "a", LONG),)),
    Scenario("get, short becomes long", (GETS, (("set", "a", LONG),)), (A,)),
    Scenario("continuations become heads", (
        (("get", "a"),), (A, B, C),
    ), (("set", "a", LONGER),)),
    Scenario("heads become continuations", (
        GETS, (("delete", "b"), ("set", "a", LONG)),
    ), (A, B)),
    Scenario("long over long, chains swapped", (
        (("get", "a"),), (("set", "a", 20), ("set", "a", 20)),
    ), (("set", "a", 20),), slot_size=32, bound=4),
    Scenario("contains, delete and add", (
        (("contains", "a"), ("contains", "a")), (("delete", "a"), ("add", "a", SHORT)),
    ), (A,)),
    Scenario("get and delete, another key comes", (GETS, (("delete", "a"), B)), (A,)),
    Scenario("versions", (
        (("get_versioned", "a"), ("get_versioned", "a")), (A, ("touch", "a")),
    ), (A,)),
    Scenario("versions of a counter", (
        (("get_versioned", "n"), ("get_versioned", "n")), (("incr", "n"),),
    ), (("incr", "n"),)),
    Scenario("list, set and delete", ((("list", ""),), (A, ("delete", "b"))), (A, B)),
    Scenario("list in a rebuild", ((("list", ""),), (("repair", ""),)), (A, B), bound=2),
    Scenario("get in a rebuild", ((("get", "a"), ("get", "b")), (("repair", ""),)), (
        A, ("set", "b", LONG))),
    Scenario("get, set and a rebuild", ((("get", "a"),), (A,), (("repair", ""),)), (A,), bound=0),
)
