"""The tuner of the shard count: what it decides about histories that were made up."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shmmap.moving.tuning import (
    CLASSES,
    DEFAULTS,
    LEAST_CHANGES,
    AutoShards,
    Decision,
    Observation,
    Round,
    Tuner,
    between,
)

ROUND_S = 30.0
AT_ONCE = AutoShards(rounds=1, pause=0.0)
POWERS = [1 << n for n in range(13)]


class Load(NamedTuple):
    """What a map's workers do all the time.

    Attributes:
        per_s: changes a second; as many reads.
        demand: the part of the changes that would wait if there were one shard.
        kinds: the weights of the classes of their times.
        fill: part of the slots in use.
    """

    per_s: float = 20_000.0
    demand: float = 0.0
    kinds: tuple[int, ...] = (1, 0, 0, 0, 0, 0)
    fill: float = 0.5


class World:
    """A map that is not there: what would be counted, and a tuner that is obeyed."""

    def __init__(self, said: AutoShards = DEFAULTS, shards: int = 16) -> None:
        self.tuner = Tuner(said)
        self.last: Observation | None = None
        self.now = Observation(10**15, 0, 0, ((0,) * CLASSES,) * shards, 0, 10**6, shards)
        self.true_s = 0.0
        self.history = [(0.0, shards)]
        self.refusal: Callable[[int], str] = lambda shards: ""

    def pass_by(self, load: Load, seconds: float = ROUND_S, clock_s: float | None = None) -> None:
        """Let the workers do their work for so long; the clock may tell another time."""
        now, changes = self.now, round(load.per_s * seconds)
        waiting = min(changes, changes * load.demand / now.shards)
        each = [round(waiting * kind / sum(load.kinds) / now.shards) for kind in load.kinds]
        self.true_s += seconds
        self.now = now._replace(
            now_ns=now.now_ns + round((seconds if clock_s is None else clock_s) * 1e9),
            operations=now.operations + 2 * changes, changes=now.changes + changes,
            waits=tuple(tuple(map(sum, zip(one, each, strict=True))) for one in now.waits),
            used=round(now.slots * load.fill),
        )

    def decide(self) -> Decision:
        """Ask the tuner, and do what it says at once."""
        decision = self.tuner.decide(self.last, self.now, self.refusal)
        self.last = self.now
        if decision.shards is not None:
            self.move(decision.shards)
        return decision

    def move(self, shards: int) -> None:
        """Have another number of shards, which count anew."""
        now = self.now
        self.now = now._replace(
            waits=((0,) * CLASSES,) * shards, shards=shards, generation=now.generation + 1,
            changed_ns=now.now_ns,
        )
        self.history.append((self.true_s, shards))

    def go_on(self, load: Load, rounds: int = 100) -> list[int]:
        """Let so many rounds pass; return the numbers of shards that it had."""
        for _ in range(rounds):
            self.pass_by(load)
            self.decide()
        return [shards for _, shards in self.history]


def one_round(
    waits: tuple[int, ...], changes: int = 1_000_000, shards: int = 16, used: int = 500_000,
    seconds: float = ROUND_S, hot: int = 0,
) -> tuple[Observation, Observation]:
    """Return two looks between which so many waited, of each class, in all shards alike (`hot`: in
    the first one so many more)."""
    first = Observation(10**15, 0, 0, ((0,) * CLASSES,) * shards, used, 10**6, shards)
    here = [waits] * shards
    here[0] = (waits[0] + hot, *waits[1:])
    return first, first._replace(
        now_ns=10**15 + round(seconds * 1e9), operations=changes, changes=changes,
        waits=tuple(here),
    )


def target(said: AutoShards, looks: tuple[Observation, Observation]) -> int:
    """Return how many shards one round asks for."""
    return Tuner(said).decide(*looks).shards or looks[1].shards


loads = st.builds(
    Load, st.floats(0.0, 1e6), st.floats(0.0, 16.0),
    st.tuples(st.integers(1, 100), *[st.integers(0, 100)] * (CLASSES - 1)), st.floats(0.0, 1.0),
)
settings_ = st.builds(
    lambda least, span, wait_share, wait_p99, fill, rounds, pause: AutoShards(
        least, least << span, 5_000, wait_share, wait_p99, fill, rounds, pause
    ),
    st.sampled_from(POWERS[:5]), st.integers(0, 4), st.floats(0.001, 1.0), st.floats(1e-5, 0.1),
    st.floats(0.0, 0.5), st.integers(1, 4), st.sampled_from([0.0, 60.0, 300.0]),
)


# -- what it does ---------------------------------------------------------------------------


def test_it_grows_by_one_power_of_two_where_many_wait():
    world = World()
    assert world.go_on(Load(demand=3.0), rounds=3) == [16]  # a first look, and two rounds
    assert world.go_on(Load(demand=3.0), rounds=1) == [16, 32]
    assert world.go_on(Load(demand=3.0)) == [16, 32, 64]  # 3 / 64 is less than 5 %
    assert world.history[2][0] - world.history[1][0] >= DEFAULTS.pause


def test_it_grows_for_few_long_waits():
    """Nearly two in a hundred wait, for a millisecond or more."""
    assert World().go_on(Load(demand=0.018 * 16, kinds=(0, 0, 0, 1, 0, 0))) == [16, 32]
    assert World().go_on(Load(demand=0.018 * 16, kinds=(0, 1, 0, 0, 0, 0))) == [16]
    assert World().go_on(Load(demand=0.009 * 16, kinds=(0, 0, 0, 0, 0, 1))) == [16]


def test_it_shrinks_by_one_power_of_two_where_the_map_is_nearly_empty():
    assert World(shards=64).go_on(Load(fill=0.05)) == [64, 32, 16]
    assert World(shards=64).go_on(Load(fill=0.2)) == [64]
    assert World(AutoShards(fill=0.0), shards=64).go_on(Load(fill=0.0)) == [64]
    assert World(shards=64).go_on(Load(0.0, fill=0.05)) == [64, 32, 16]  # nobody does anything


def test_it_does_not_shrink_where_more_would_wait_then():
    """At 64 shards 1.5 % wait, at 32 it would be 3 %: more than half of what is too many."""
    assert World(shards=64).go_on(Load(demand=0.96, fill=0.01)) == [64]
    assert World(shards=64).go_on(Load(demand=0.64, fill=0.01)) == [64, 32]
    long = (0, 0, 0, 1, 0, 0)  # 0.6 % wait for milliseconds, and at 32 shards 1.2 %
    assert World(shards=64).go_on(Load(demand=0.384, kinds=long, fill=0.01)) == [64]
    assert World(shards=64).go_on(Load(demand=0.256, kinds=long, fill=0.01)) == [64, 32]


def test_few_operations_never_ask_for_more():
    busy = Load(demand=16.0, kinds=(0, 0, 0, 0, 0, 1))
    assert World().go_on(busy._replace(per_s=2_400.0)) == [16]
    assert World().go_on(busy._replace(per_s=2_600.0), rounds=4) == [16, 32]
    looks = one_round((1,) * CLASSES, changes=LEAST_CHANGES - 1, seconds=0.001)
    assert target(AT_ONCE, looks) == 16
    looks = one_round((1,) * CLASSES, changes=LEAST_CHANGES, seconds=0.001)
    assert target(AT_ONCE, looks) == 32


def test_one_hot_shard_is_not_helped_by_more():
    even = one_round((3_200, 0, 0, 0, 0, 0))
    assert target(AT_ONCE, even) == 32
    hot = one_round((200, 0, 0, 0, 0, 0), hot=60_000)
    decision = Tuner(AT_ONCE).decide(*hot)
    assert decision.shards is None and "95% of the waits are in one shard" in decision.why
    two = one_round((200, 0, 0, 0, 0, 0), hot=60_000, shards=2)
    assert target(AutoShards(rounds=1, least=1), two) == 4  # of two, one has half anyway


def test_rounds_that_differ_are_not_in_a_row():
    world, busy = World(), Load(demand=3.0)
    for load in (busy, busy, busy, Load(), busy, busy, Load(fill=0.01), busy, busy):
        world.pass_by(load)
        world.decide()
    assert [shards for _, shards in world.history] == [16]
    assert world.go_on(busy, rounds=1) == [16, 32]


def test_from_outside_of_the_bounds_it_comes_nearer_only():
    busy, empty = Load(demand=1e4), Load(fill=0.01)
    said = AutoShards(least=16, most=64)
    assert World(said, shards=4).go_on(busy) == [4, 8, 16, 32, 64]
    assert World(said, shards=4).go_on(empty) == [4]
    assert World(said, shards=256).go_on(busy) == [256]
    assert World(said, shards=256).go_on(empty) == [256, 128, 64, 32, 16]


def test_it_asks_whether_the_map_can_have_so_many():
    asked = []

    def refusal(shards: int) -> str:
        asked.append(shards)
        return "there is no room"

    world = World(AutoShards(rounds=2))
    world.refusal = refusal
    assert world.go_on(Load(demand=3.0), rounds=5) == [16]
    assert asked == [32, 32, 32]  # not in the first round
    world.pass_by(Load(demand=3.0))
    assert world.decide().why.endswith("but there is no room")


def test_while_entries_move_and_after_it_begins_anew():
    world, busy = World(AutoShards(rounds=2, pause=0.0)), Load(demand=3.0)
    world.go_on(busy, rounds=2)
    world.now = world.now._replace(is_moving=True)
    for _ in range(5):
        world.pass_by(busy)
        assert world.decide() == (None, "entries are being moved")
    world.now = world.now._replace(is_moving=False)
    for why in ("has changed", "round 1 of 2", "2 rounds in a row"):
        world.pass_by(busy)
        assert why in world.decide().why
    assert world.now.shards == 32


# -- what it never does -----------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(loads, settings_, st.sampled_from(POWERS[:9]))
def test_a_constant_load_never_makes_it_oscillate(load, said, shards):
    """It goes one way, and then stays: twice the shards have half of the waits."""
    assume(load.demand <= shards)
    steps = World(said, shards).go_on(load, rounds=80)
    assert steps in (sorted(steps), sorted(steps, reverse=True))
    assert len(set(steps)) == len(steps)


turns = st.lists(
    st.tuples(loads, st.floats(1.0, 400.0), st.floats(0.0, 1_000.0), st.booleans(),
              st.booleans()),
    min_size=1, max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(turns, st.sampled_from(POWERS[4:8]))
def test_no_two_changes_come_within_the_pause(history, shards):
    """However the load changes, though the clock is put back, and though another process goes on
    that knows nothing but what is in the map."""
    said = AutoShards(rounds=1, wait_share=0.01)
    world = World(said, shards)
    for load, seconds, back_s, is_put_back, is_another in history:
        world.pass_by(load, seconds, seconds - back_s if is_put_back else None)
        if is_another:
            world.tuner, world.last = Tuner(said), None
        world.decide()
    times = [at for at, _ in world.history[1:]]
    assert all(b - a >= said.pause for a, b in itertools.pairwise(times))
    numbers = [n for _, n in world.history]
    assert all(b in (2 * a, a // 2) for a, b in itertools.pairwise(numbers))
    assert all(said.least <= n <= said.most for n in numbers)


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(*[st.integers(0, 3_000)] * CLASSES), st.tuples(*[st.integers(0, 3_000)] * CLASSES),
    st.integers(0, 300_000), st.integers(0, 1_000_000), st.sampled_from(POWERS[:8]),
)
def test_more_waiting_never_gives_fewer_shards(waits, more, changes, used, shards):
    said = AutoShards(1, 4_096, rounds=1)
    all_ = tuple(map(sum, zip(waits, more, strict=True)))
    fewer = target(said, one_round(waits, changes, shards, used, seconds=1.0))
    assert fewer <= target(said, one_round(all_, changes, shards, used, seconds=1.0))


@settings(max_examples=200, deadline=None)
@given(st.tuples(*[st.integers(0, 1_000)] * CLASSES), st.integers(1, 100_000),
       st.floats(1.0, 4.0))
def test_the_wait_of_99_in_100_lies_in_its_class(waits, changes, times):
    found = Round(1.0, changes, waits, 0.0, 0.5)
    waited_ns = found.p99_s(times) * 1e9
    longer = [n * times for n in waits]
    if sum(longer) <= changes / 100:
        assert waited_ns == 0.0
        return
    number = next(n for n in range(CLASSES) if waited_ns <= 2.0 ** (14 + 3 * n) * 1.0001)
    assert sum(longer[number + 1:]) <= changes / 100 <= sum(longer[number:]) * 1.0001
    assert found.p99_s(times) <= found.p99_s(times * 2)


# -- what cannot be -------------------------------------------------------------------------


def fallen(change: Callable[[Observation], Observation]) -> Any:
    _first, second = one_round((100,) * CLASSES)
    return between(second, change(second._replace(now_ns=second.now_ns + 10**9)))


@pytest.mark.parametrize("change", [
    lambda o: o._replace(operations=o.operations - 1),
    lambda o: o._replace(changes=o.changes - 1),
    lambda o: o._replace(waits=((*o.waits[0][:5], o.waits[0][5] - 1), *o.waits[1:])),
], ids=["operations", "changes", "waits"])
def test_counters_that_fall_are_no_round(change):
    assert "counters have fallen" in fallen(change)
    assert isinstance(fallen(lambda o: o), Round)


def test_a_worker_that_died_and_was_summed_up_costs_a_round():
    """Counted twice as its row is added to the totals, then once: too many, then too few."""
    world, busy = World(AutoShards(rounds=2, pause=0.0)), Load(demand=3.0)
    world.go_on(busy, rounds=2)
    real, world.now = world.now, world.now._replace(changes=10**12, operations=10**12)
    world.pass_by(busy)
    assert "all is well" in world.decide().why
    world.now = real
    world.pass_by(busy)
    world.pass_by(busy)
    assert "counters have fallen" in world.decide().why
    assert world.go_on(busy, rounds=1) == [16]
    assert world.go_on(busy, rounds=1) == [16, 32]


@pytest.mark.parametrize("before", [0, 1, 5])
def test_a_clock_that_is_put_back_begins_the_pause_anew(before):
    world, busy = World(AutoShards(rounds=1)), Load(demand=16.0)
    assert world.go_on(busy, rounds=2 + before) == [16, 32]
    world.pass_by(busy, clock_s=-10_000.0)
    assert world.decide().why == "the clock was put back"
    for _ in range(9):
        world.pass_by(busy)
        assert "less than 300 s ago" in world.decide().why
    world.pass_by(busy)
    assert world.decide().shards == 64


def test_a_change_in_times_to_come_is_one_of_now():
    world = World(AutoShards(rounds=1))
    world.now = world.now._replace(changed_ns=world.now.now_ns + 10**15)
    assert world.go_on(Load(demand=16.0), rounds=10) == [16]
    assert world.go_on(Load(demand=16.0), rounds=1) == [16, 32]


# -- settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "kind", "text"), [
    ({"least": 24}, ValueError, "least=24 must be a power of two"),
    ({"most": 8192}, ValueError, "most=8192 must be a power of two"),
    ({"least": 64, "most": 32}, ValueError, "least=64 must not be more than most=32"),
    ({"least": 16.0}, TypeError, "least must be an int"),
    ({"wait_share": 0.0}, ValueError, "wait_share=0"),
    ({"wait_share": "5 %"}, TypeError, "wait_share must be a number"),
    ({"wait_p99": float("nan")}, ValueError, "wait_p99=nan must be"),
    ({"fill": 0.6}, ValueError, "fill=0.6 must be from 0 to 0.5"),
    ({"operations": -1}, ValueError, "operations=-1"),
    ({"pause": -1}, ValueError, "pause=-1"),
    ({"rounds": 0}, ValueError, "rounds=0 must be from 1"),
    ({"rate": 0}, ValueError, "rate=0 must be at least 1"),
    ({"rate": 0.5}, TypeError, "rate must be entries a second"),
    ({"dry_run": 1}, TypeError, "dry_run must be a bool"),
])
def test_settings_that_cannot_be_are_refused(said, kind, text):
    with pytest.raises(kind, match=text):
        AutoShards(**said)


def test_settings_are_kept_by_a_pickle_and_shown():
    said = AutoShards(most=64, dry_run=True)
    assert pickle.loads(pickle.dumps(said)) == said and said.most == 64
    assert repr(AutoShards(rate=5)).startswith("AutoShards(least=16, most=256, ")
