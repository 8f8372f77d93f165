"""What the simulated workers do: small programs on one to three keys, made to collide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..simulator.world import World

Operation = tuple[Any, ...]  # name, key, and what belongs to it: see `perform`


class Scenario(NamedTuple):
    """Programs of workers, over a map that some operations have filled before."""

    name: str
    programs: tuple[tuple[Operation, ...], ...]
    before: tuple[Operation, ...] = ()
    slots: int = 4
    slot_size: int = 40  # 24 bytes of key and value in the first slot, 32 in each further one
    evicts: bool = False
    bound: int = 3  # preemptions of the exhaustive search; 0: too large for it, random only
    never_full: bool = False  # MapFull is wrong here
    shards: int = 1
    homes: tuple[int, ...] = ()  # the process of each worker, where some are threads of one

    def keys(self) -> list[str]:
        """List the keys that it is about."""
        operations = [*self.before, *(op for program in self.programs for op in program)]
        return sorted({op[1] for op in operations if len(op) > 1 and isinstance(op[1], str)})


SHORT, LONG, LONGER = 8, 40, 70  # value bytes: 1, 2 and 3 slots


def perform(world: World, mark: int, operation: Operation) -> None:
    """Make the calls of one operation; `mark` tells its value from all others."""
    name, key, *rest = (*operation, "")
    if name == "advance":
        world.machine.advance(operation[1])
        return
    rest = list(operation[2:])
    value = bytes([mark]) * (rest[0] if rest else 0)
    if name in ("set", "add", "replace"):
        world.call(name, key, value, ttl_ns=rest[1] if len(rest) > 1 else None)
    elif name == "bounded":
        world.call(name, key, *rest)
    elif name == "cas":  # on the version that it finds
        found = world.call("get_versioned", key)
        world.call("cas", key, value, found[1])
    elif name == "merge":  # a copy newer than what it finds, or "as new", or of a version
        limit = rest[2] if len(rest) > 2 else "newer"
        if isinstance(limit, str):
            limit = world.call("get_versioned", key)[1] + (limit == "newer")
        world.call(name, key, value, limit, ttl_ns=rest[1] if len(rest) > 1 else None)
    elif name == "incr":
        world.call(name, key, *(rest or [1]))
    elif name == "touch":
        world.call(name, key, ttl_ns=rest[0] if rest else None)
    else:
        world.call(name, key)


def program(world: World, number: int, operations: tuple[Operation, ...]) -> Callable[[], None]:
    """Make a worker's work."""
    def work() -> None:
        for i, operation in enumerate(operations):
            perform(world, 16 * (number + 1) + i, operation)

    return work


def build(scenario: Scenario, all_memory: bool = False) -> World:
    """Make the scenario's map, filled."""
    world = World(len(scenario.programs), scenario.slots, scenario.slot_size, scenario.evicts,
                  all_memory, scenario.shards, scenario.homes)
    world.keys, world.never_full = scenario.keys(), scenario.never_full
    world.restore()
    with world.installed():
        for i, operation in enumerate(scenario.before):
            perform(world, 1 + i, operation)
    world.save()
    return world


A, B, C = ("set", "a", SHORT), ("set", "b", SHORT), ("set", "c", SHORT)
GETS = ("get", "a"), ("get", "a")  # the second must not go back behind the first
NEARS = ("near", "a"), ("near", "a")
SESSIONS = ("session", "a"), ("session", "a")
LEASE = 100  # a ttl, ns
BOUNDED = ("bounded", "a", LEASE)
LEASED = ("set", "a", SHORT, LEASE)
PASS = ("advance", 2 * LEASE)
SNAP = ("snapshot", "")

SCENARIOS: tuple[Scenario, ...] = (
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
    Scenario("idle sweep against set", ((("idle", ""),), (A,)), (A, PASS)),
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
    Scenario("clear against get and set", (
        (("get", "a"), ("get", "b")), (("clear", ""), A),
    ), (A, B)),
    Scenario("clear against set", ((("clear", ""),), (A,)), (A,)),
    Scenario("popitem against popitem", ((("popitem", ""),), (("popitem", ""),)), (A, B)),
    Scenario("popitem against set", ((("popitem", ""),), (A,)), (A,)),
    Scenario("list, set and delete", ((("list", ""),), (A, ("delete", "b"))), (A, B)),
    Scenario("list in a rebuild", ((("list", ""),), (("repair", ""),)), (A, B), bound=2),
    Scenario("get in a rebuild", ((("get", "a"), ("get", "b")), (("repair", ""),)), (
        A, ("set", "b", LONG))),
    Scenario("get, set and a rebuild", ((("get", "a"),), (A,), (("repair", ""),)), (A,), bound=0),
    Scenario("full map", ((("set", "d", SHORT), ("get", "d")), (("delete", "a"),)), (A, B, C)),
    Scenario("overwrite in a full map", (GETS, (A, A)), (A, B, C), never_full=True),
    Scenario("two want the reserve", ((A,), (B,)), (A, B, C), never_full=True),
    Scenario("long over short in a full map", ((("set", "a", LONG),), (("get", "a"), B)),
             (A, B, C)),
    Scenario("incr in a full map", ((("incr", "n"),), (("incr", "n"), B)), (
        ("incr", "n"), B, C), never_full=True),
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
    # snapshots: "a", "c" and "n" live in shard 0, "b" and "d" in shard 1
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
