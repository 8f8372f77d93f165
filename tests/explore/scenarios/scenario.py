"""What a scenario is, and how it is run: small programs of simulated workers on one to three keys,
made to collide. The other files of this folder ask one question each; every.py has all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from shmmap.memory.layout import constants

from ..simulator.moving_world import MovingWorld, Shape
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
    shapes: tuple[Shape, ...] = ()  # what the map is moved to: shards, slots, bytes a slot
    tombstones_ns: int = 0  # for how long a delete leaves one; 0: it leaves none

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
    value = bytes([mark]) * (rest[0] if rest and isinstance(rest[0], int) else 0)
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
    elif name in ("incr", "apply", "edit"):
        world.call(name, key, *(rest or [1]))
    elif name in ("touch", "get_and_touch"):
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
    arguments = (len(scenario.programs), scenario.slots, scenario.slot_size, scenario.evicts,
                 all_memory, scenario.shards, scenario.homes, scenario.tombstones_ns)
    world = MovingWorld(scenario.shapes, *arguments) if scenario.shapes else World(*arguments)
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
LEASE = constants()["DEADLINE_TICK_NS"]  # a ttl, ns
BOUNDED = ("bounded", "a", LEASE)
LEASED = ("set", "a", SHORT, LEASE)
PASS = ("advance", 2 * LEASE)
SNAP = ("snapshot", "")
