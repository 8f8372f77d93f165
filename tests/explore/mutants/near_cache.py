"""Faults planted in what a near cache keeps, compares and answers."""

from __future__ import annotations

from shmmap.operations._near_cy import NearStore
from shmmap.operations._reads_cy import Reads
from shmmap.operations._writes_cy import Writes
from shmmap.shard._repair_cy import Repairer

from ..scenarios.scenario import BOUNDED, LEASE, PASS, Scenario
from .mutant import A, B, Mutant, change, drop

NEAR_CACHE = (
    Mutant("a near cache does not compare the version", (
        drop(Reads, "is_current", "load(shard.mem, held.at) != held.version or "),
    ), "near cache and set", "every 1"),
    Mutant("a near cache looks at no deadline", (
        drop(Reads, "is_current", " or (\n        held.expired(now_ns)\n    )"),
    ), "near cache, it expires", "every 2"),
    Mutant("a read keeps what it read, though more was seen meanwhile", (
        change(NearStore, "finish", "self.drop(key)", "self.entries[key] = fresh"),
        change(NearStore, "drop", "bury(entry)", "pass"),
    ), "two threads, one writes", "every 2"),
    Mutant("a read that is not the last does not take out the others'", (
        change(NearStore, "finish", "self.drop(key)", "pass"),
    ), "two threads, another process writes", "every 2", 20000),
    Mutant("an own write leaves what was held", (
        change(Writes, "commit", "self.near.drop(key)", "pass"),
    ), "bounded, own writes", "every 1"),
    Mutant("a miss leaves what was held", (
        change(Reads, "near_fetch", "if raw is MISSING:\n        near.drop(key)",
               "if raw is MISSING:\n        pass"),
    ), Scenario("a miss, then a longer bound", (
        (BOUNDED, BOUNDED, ("bounded", "a", 10 * LEASE)), (("delete", "a"), PASS),
    ), (A,)), "every 2"),
    Mutant("what only looks is not noticed", (
        change(Reads, "__contains__", "self.near.saw(", "(lambda *seen: None)("),
    ), "bounded and delete", "every 2"),
    Mutant("a bounded answer is of any age", (
        change(Reads, "near_read", "now_ns - held.read_ns <= consistency", "True"),
    ), "bounded and set", "every 2"),
    Mutant("a bounded answer is aged from when it was kept", (
        change(Reads, "near_fetch", "fresh.read_ns = now_ns", "fresh.read_ns = self.clock.now()"),
    ), "bounded and set", "every 3", 20000),
    Mutant("a bounded answer may be expired", (
        change(Reads, "near_read", "not held.expired(now_ns)", "True"),
    ), "bounded, it expires", "every 1"),
    Mutant("a session answers what it holds though it may wait", (
        change(Reads, "near_fetch", "raw = self.fetch(packed, found, VALUE_UNLOCKED)\n",
               "raw = None\n"),
    ), "session and set", "every 1"),
    Mutant("repair meets the newest where it lies", (
        change(Repairer, "run", "version == newest and not last", "False"),
    ), Scenario("near cache, a death, a repair, a thread each read", (
        (A,), (("near", "a"),), (B,), (("get", "a"),), (("near", "a"),),
    ), (B, A, A), homes=(0, 1, 2, 3, 1)), "left SEQUENCE every 1"),
)
