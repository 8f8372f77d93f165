"""Does every snapshot show one instant of all keys, whatever writers do while it is taken?

"a", "c" and "n" live in shard 0, "b" and "d" in shard 1.
"""

from __future__ import annotations

from .scenario import LEASE, LONG, LONGER, PASS, SHORT, SNAP, A, B, C, Scenario

SNAPSHOTS = (
    Scenario("snapshot between two sets", ((SNAP,), (A, B)), (A, B), bound=2, shards=2),
    Scenario("snapshot between two sets, other order", ((SNAP,), (B, A)), (A, B), bound=2,
             shards=2),
    Scenario("snapshot of new keys", ((SNAP,), (A, B)), bound=2, shards=2),
    Scenario("snapshot of counters", ((SNAP,), (("incr", "n"), ("incr", "d"))), (
        ("incr", "n"), ("incr", "d")), bound=2, shards=2),
    Scenario("snapshot and deletes", ((SNAP,), (("delete", "a"), ("delete", "b"))), (A, B),
             bound=2, shards=2),
    Scenario("snapshot of chains", (
        (SNAP,), (("set", "a", LONG), ("set", "b", LONG)),
    ), (("set", "a", LONG), B), bound=1, shards=2),
    Scenario("snapshot, slots are used again", (
        (SNAP,), (("delete", "a"), ("set", "c", LONG), ("delete", "b"), ("set", "d", SHORT)),
    ), (A, B), bound=1, shards=2),
    Scenario("snapshot, chains are used again", (
        (SNAP,), (("delete", "a"), C, ("set", "b", SHORT), ("set", "a", SHORT)),
    ), (("set", "a", LONGER), ("set", "b", LONG)), bound=1, shards=2),
    Scenario("snapshot and deadlines", (
        (SNAP,), (("touch", "a", LEASE), ("set", "b", SHORT, LEASE), PASS, ("touch", "b")),
    ), (A, B), bound=1, shards=2),
    Scenario("snapshot and clear", ((SNAP,), (("clear", ""), A)), (A, B, C), bound=1, shards=2),
    Scenario("snapshot in a rebuild", ((SNAP,), (("repair", ""), A, B)), (A, B), bound=1,
             shards=2),
    Scenario("two snapshots", ((SNAP,), (SNAP,), (A, B)), (A, B), bound=0, shards=2),
    Scenario("snapshot and two writers", ((SNAP,), (A, B), (B, A)), (A, B), bound=0, shards=2),
    Scenario("snapshot, writers, evictions", (
        (SNAP, ("get", "a")), (("set", "g", LONG), ("set", "d", SHORT)), (("set", "a", LONGER), B),
    ), (A, B, C), evicts=True, bound=0, shards=2),
    Scenario("snapshot of one shard", ((SNAP,), (A, ("incr", "n"), ("delete", "b"))), (
        A, B, ("incr", "n")), bound=1),
)
