"""Do three at once find an order that none of two would: in the queue for the lock, on all keys?

Most are too large to be explored exhaustively (`bound=0`): random schedules only.
"""

from __future__ import annotations

from .scenario import LEASE, LONG, PASS, SHORT, A, B, C, Scenario

THREE_WORKERS = (
    Scenario("three workers, one key", ((A,), (A,), (("get", "a"),)), (A,), bound=2),
    Scenario("three counters", ((("incr", "a"),), (("incr", "a"),), (("incr", "a"),)), (
        ("incr", "a"),), bound=2),
    Scenario("three queue for the lock", (
        (A,), (B,), (("pop", "a"),),
    ), (A, B), bound=1),
    Scenario("three keys", ((A, ("get", "b")), (B, ("get", "c")), (C, ("get", "a"))), bound=0),
    Scenario("everything at once", (
        (("set", "a", LONG), ("incr", "n"), ("list", "")),
        (("delete", "a"), ("set", "b", SHORT, LEASE), ("get", "n"), ("clear", "")),
        (PASS, ("get", "a"), ("pop", "b"), ("touch", "n", LEASE), ("sweep", "")),
    ), (A, ("incr", "n")), bound=0),
    Scenario("everything at once, evicting", (
        (("set", "a", LONG), ("set", "c", SHORT), ("get", "b")),
        (("set", "d", SHORT), ("cas", "b", SHORT), ("popitem", "")),
        (("get", "a"), ("get", "d"), ("replace", "c", LONG), ("incr", "n")),
    ), (A, B, C), evicts=True, bound=0),
)
