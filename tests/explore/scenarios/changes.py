"""Is a change of an entry by what it holds one step, whoever else changes it meanwhile?

An edit here has no lock: its write alone must see to that. It may end in a conflict, which must
have changed nothing.
"""

from __future__ import annotations

from .scenario import GETS, LEASE, LEASED, PASS, A, B, Scenario

APPLY, EDIT, FLOAT = ("apply", "n"), ("edit", "n"), ("incr", "n", 0.5)
COUNTER = (("incr", "n"),)

CHANGES = (
    Scenario("apply against apply", ((APPLY, ("get", "n")), (APPLY,)), COUNTER, bound=2),
    Scenario("apply of a new key", ((APPLY,), (APPLY,)), bound=2),
    Scenario("apply against incr", ((APPLY,), (("incr", "n"), ("incr", "n"))), COUNTER, bound=2),
    Scenario("apply against delete", ((APPLY,), (("delete", "n"), ("get", "n"))), COUNTER, bound=2),
    Scenario("apply against touch, as it expires", (
        (APPLY, ("get", "n")), (("touch", "n", LEASE), PASS, ("get", "n")),
    ), COUNTER, bound=2),
    Scenario("edit against edit", ((EDIT, ("get", "n")), (EDIT,)), COUNTER, bound=2),
    Scenario("edit against incr", ((EDIT,), (("incr", "n"), ("get", "n"))), COUNTER, bound=2),
    Scenario("edit of a new key", ((EDIT,), (("incr", "n"), ("delete", "n"))), bound=2),
    Scenario("floats against floats", ((FLOAT, ("get", "n")), (FLOAT,)), COUNTER, bound=2),
    Scenario("floats against incr", ((FLOAT,), (("incr", "n"), ("get", "n"))), COUNTER, bound=2),
    Scenario("floats of a new key", ((FLOAT,), (FLOAT,)), bound=2),
    Scenario("three changes", ((APPLY,), (EDIT,), (FLOAT,)), COUNTER, bound=1),
    Scenario("get_and_touch against set", ((("get_and_touch", "a"), ("get", "a")), (A,)), (A,)),
    Scenario("get_and_touch against get", (GETS, (("get_and_touch", "a", LEASE), PASS)), (A,)),
    Scenario("get_and_touch as it expires", (
        (("get_and_touch", "a", 3 * LEASE), ("get", "a")), (PASS, B),
    ), (LEASED,), bound=2),
)
