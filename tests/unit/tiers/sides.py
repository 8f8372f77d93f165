"""Sides of a reconcile over stores in this process, with what happens between any two of its steps:
others write, or it is broken off. And a model of what is to come of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import combinations
from typing import Any

from shmmap import DELETE
from shmmap.memory._clock_cy import wall_ns
from shmmap.testing import LocalStore
from shmmap.tiers.reconciling import ReconcileReport, Reconciling
from shmmap.tiers.stamps import Stamps, latest_believed, time_of
from shmmap.tiers.store_keys import StoreKeys
from shmmap.tiers.store_side import Policies, StoreSide
from shmmap.tiers.stored import Writing

DAY_S = 86_400.0
SKEW_S = 25.0  # of a clock, either way


class BrokenOff(Exception):
    """The process that reconciles ends here."""


class Machine:
    """One side, whose clock is wrong by `skew_s`."""

    def __init__(self, skew_s: float = 0.0, prefix: str = "t:") -> None:
        self.store = LocalStore(self.turn, waits=False)
        self.names = StoreKeys(prefix)
        self.writing = Writing(False, Stamps(lambda: wall_ns() + int(skew_s * 1e9)))
        self.side = StoreSide(self.store, self.names, self.writing)
        self.before: Callable[[], object] = lambda: None

    def turn(self) -> None:
        """Let happen what comes before a step of the store's."""
        self.before()

    def put(self, key: Any, value: Any, ttl_s: float | None = None) -> bytes:
        """Write, or remove (DELETE), as a tier does; return the stamp."""
        if value is DELETE:
            data, ttl_s = self.writing.tombstone(), ttl_s or DAY_S
        else:
            data = self.writing.encode(value)
        self.store._put(self.names.name_of(key), data, ttl_s)
        return data[2:14]

    def value(self, key: Any) -> Any:
        """Return what is there; DELETE: a tombstone, None: nothing."""
        found = self.store._look(self.names.name_of(key))
        if found is None:
            return None
        if found.data[14] == 254:
            return DELETE
        return self.writing.decode(found.data[14], found.data[15:], "")

    def everything(self) -> dict[Any, bytes]:
        """Return all bytes."""
        return {self.names.key_of(name): data for name, (data, _) in self.store.kept.items()}


def reconcile(one: Machine, other: Machine, policy: Any = "last") -> ReconcileReport:
    """Do it, as a tier does."""
    decide = Policies(one.side, one.writing, DAY_S).called(policy)
    return Reconciling(one.side, other.side, decide,
                       lambda version: time_of(version) <= latest_believed()).run()


def has_done(report: ReconcileReport) -> bool:
    """Tell whether there was anything to do."""
    return bool(report.received or report.sent or report.resolved or report.changed)


def comes_to_rest(machines: list[Machine], policy: Any = "last") -> None:
    """Reconcile all pairs until there is nothing to do; assert that all have the same."""
    for _ in range(8):
        reports = [reconcile(*pair, policy) for pair in combinations(machines, 2)]
        if not any(map(has_done, reports)):
            break
    else:
        raise AssertionError("it does not come to rest")
    first, *others = [machine.everything() for machine in machines]
    assert all(first == other for other in others)


class World:
    """Machines that write, and are reconciled again and again, as a seed says. `new`: makes a value
    of a machine's former one; `model`: what was written last, by stamp."""

    def __init__(
        self, seed: int, new: Callable[[random.Random, Any, int], Any], policy: Any = "last",
    ) -> None:
        self.draw = draw = random.Random(seed)
        self.seed = seed
        self.policy = policy
        self.new = new
        skews = [draw.uniform(-SKEW_S, SKEW_S) for _ in range(draw.choice((2, 2, 3)))]
        self.machines = [Machine(skew) for skew in skews]
        self.model: dict[int, tuple[bytes, Any]] = {}
        self.written: dict[int, list[Any]] = {}
        self.number = 0
        self.is_within = False

    def write(self) -> None:
        """Have somebody write something."""
        machine, key = self.draw.choice(self.machines), self.draw.randrange(6)
        self.number += 1
        value = self.new(self.draw, machine.value(key), self.number)
        stamp = machine.put(key, value)
        self.written.setdefault(key, []).append(value)
        self.model[key] = max(self.model.get(key, (b"", None)), (stamp, value), key=_stamp)

    def meanwhile(self, may_break: bool) -> None:
        """Let something happen between two steps, perhaps."""
        if self.draw.random() < 0.15:
            self.write()
        if may_break and self.draw.random() < 0.05:
            raise BrokenOff
        if not self.is_within and self.draw.random() < 0.05:  # another one, between two steps
            self.is_within = True
            with suppress(BrokenOff):
                reconcile(*self.draw.sample(self.machines, 2), self.policy)
            self.is_within = False

    def run(self) -> None:
        """Live through it, and come to rest."""
        for _ in range(12):
            for _ in range(self.draw.randrange(8)):
                self.write()
            for machine in self.machines:
                machine.before = lambda: self.meanwhile(True)
            with suppress(BrokenOff):
                reconcile(*self.draw.sample(self.machines, 2), self.policy)
            for machine in self.machines:
                machine.before = lambda: None
        comes_to_rest(self.machines, self.policy)


def _stamp(pair: tuple[bytes, Any]) -> bytes:
    return pair[0]


def worlds(seeds: range, *given: Any) -> Iterator[World]:
    """Live through worlds; say of which seed one was that failed."""
    for seed in seeds:
        world = World(seed, *given)
        try:
            world.run()
            yield world
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def last_write(draw: random.Random, former: Any, number: int) -> Any:
    """Write a new value, or remove the key."""
    return DELETE if draw.random() < 0.3 else number


def larger(draw: random.Random, former: Any, number: int) -> Any:
    """Raise a number."""
    return (former or 0) + draw.randrange(1, 5)


def one_more(draw: random.Random, former: Any, number: int) -> Any:
    """Add a member."""
    return tuple(sorted({*(former or ()), number}))


def union(key: Any, mine: Any, theirs: Any) -> Any:
    """Merge two."""
    return tuple(sorted({*mine, *theirs}))


def look_at_last(seeds: range) -> None:
    """Live through worlds where the later write wins; assert that each key holds that."""
    for world in worlds(seeds, last_write):
        for machine in world.machines:
            there = {key: machine.value(key) for key in world.model}
            assert there == {key: value for key, (_, value) in world.model.items()}, world.seed


def look_at_largest(seeds: range) -> None:
    """The same where the largest wins."""
    for world in worlds(seeds, larger, "max"):
        for machine in world.machines:
            there = {key: machine.value(key) for key in world.written}
            assert there == {key: max(all_) for key, all_ in world.written.items()}, world.seed


def look_at_union(seeds: range) -> None:
    """The same where a function merges: no member is lost."""
    for world in worlds(seeds, one_more, union):
        for machine in world.machines:
            for key, all_ in world.written.items():
                assert set(machine.value(key)) == {one for v in all_ for one in v}, world.seed
