"""Shares: never more than the rule allows, whoever is stopped, dies or is cut off; what is lost."""

from __future__ import annotations

import random
from typing import Any

import pytest

from shmmap import MapClosed, RateLimiter, ShardBusy, ShmMap, StoreUnavailable
from shmmap.counters import shares as shares_module
from shmmap.counters.shares import ALGORITHMS, GROWTH, Share, ShareCounter
from shmmap.testing import LocalStore
from shmmap.tiers.store import SHARE
from shmmap.windows import Hit

from ...support.engines import once

pytestmark = once  # the same with either engine

S = 1_000_000_000
EACH = pytest.mark.parametrize("algorithm", ALGORITHMS)
BOOTED = 10**15


class World:
    """Several machines, one store, one time, which the machines see from clocks of their own."""

    def __init__(self, tiers: Any, machines: int, limit: int, per: float, **options: Any) -> None:
        self.store = LocalStore()
        self.now = self.asked = 0
        self.delay: Any = lambda: 0
        self.store.now_ns = self.ask
        self.limiters = []
        self.offsets = [BOOTED + number * 10**13 for number in range(machines)]
        for _ in range(machines):
            tier = tiers(self.store)
            self.limiters.append(
                RateLimiter(tier, limit, per, machines="shares", **options))
        self.passed: list[int] = []
        self.set_clocks()

    def ask(self) -> int:
        """Return the store's time: a question takes some to come there, and an answer back."""
        self.now += self.delay()
        self.asked = asked = self.now
        self.now += self.delay()
        self.set_clocks()
        return 1_790_000_000 * S + asked // 1000 * 1000

    def set_clocks(self) -> None:
        for limiter, offset in zip(self.limiters, self.offsets, strict=True):
            limiter.map.attachment.clock.frozen_ns = offset + self.now

    def wait(self, seconds: float) -> None:
        self.now += round(seconds * S)
        self.set_clocks()

    def hit(self, machine: int, cost: int = 1, key: str = "k") -> bool:
        """Hit; note when it passed: as the store counted it, or as it was taken from a share."""
        self.asked = 0
        found = bool(self.limiters[machine].hit(key, cost))
        if found:
            self.passed += [self.asked or self.now] * cost
        return found


def most_over(passed: list[int], limit: int, per_ns: int, burst: int) -> float:
    """Return by how much more has passed in some span than a bucket lets through; at most 0."""
    most = float("-inf")
    lowest = float("inf")  # of what leaked up to a hit less those before it
    for number, at in enumerate(passed):
        lowest = min(lowest, number - at * limit / per_ns)
        most = max(most, number + 1 - at * limit / per_ns - lowest - burst)
    return most


def play(world: World, draw: random.Random, hits: int, costs: int) -> None:
    """Hit at random, at the rate of the rule; now and then wait until much has leaked, and have all
    machines hit as often as they can."""
    limit, per_ns, burst = world.limiters[0].rate
    mean_s = per_ns / S / limit
    machine = 0
    for _ in range(hits):
        if draw.random() < 0.2:
            machine = draw.randrange(len(world.limiters))
        world.wait(draw.choice([0.0, 0.0, 0.0, mean_s * draw.random(), mean_s, 4 * mean_s]))
        world.hit(machine, draw.randint(1, costs))
        if draw.random() < 0.02:
            world.wait(burst * mean_s * draw.choice([0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 2.0]))
            delay, world.delay = world.delay, lambda: 0
            for number in range(len(world.limiters)):
                while world.hit(number):
                    pass
            world.delay = delay


@pytest.mark.parametrize("costs", [1, 4])
@pytest.mark.parametrize("seed", range(4))
def test_a_bucket_never_lets_more_pass_in_any_span(tiers, seed, costs):
    draw = random.Random(seed)
    limit, burst = draw.choice([(60, 60), (300, 100), (40, 80)])
    world = World(tiers, 3, limit, 60, burst=burst)
    world.delay = lambda: round(draw.choice([0.0, 0.0, 2.0]) * draw.random() * S)
    play(world, draw, 3_000, costs)
    over = most_over(sorted(world.passed), limit, 60 * S, burst)
    assert over <= 1e-6, f"seed {seed}: {over:.3f} more than a bucket of {burst}"
    assert len(world.passed) > burst


@pytest.mark.parametrize("costs", [1, 4])
@pytest.mark.parametrize("seed", range(3))
def test_a_fixed_window_never_lets_more_pass(tiers, seed, costs):
    draw = random.Random(seed)
    limit = draw.choice([30, 500])
    world = World(tiers, 3, limit, 60, algorithm="fixed")
    world.delay = lambda: round(draw.choice([0.0, 0.0, 2.0]) * draw.random() * S)
    counted: list[tuple[int, int]] = []
    real, windows = world.store.hit, {}

    def hit(name: bytes, *given: Any, **more: Any) -> list[Hit]:
        found = real(name, *given, **more)
        start = int.from_bytes(world.store.kept[name][0][:8], "little")
        windows.setdefault(start, 0)
        windows[start] += found[0].taken
        return found

    world.store.hit = hit  # type: ignore[method-assign]
    play(world, draw, 3_000, costs)
    assert windows and max(windows.values()) <= limit
    for start, end in zip(sorted(windows), [*sorted(windows)[1:], 1 << 62], strict=True):
        first, last = (time - 1_790_000_000 * S for time in (start, min(end, start + 60 * S)))
        counted.append((first, sum(first <= at < last for at in world.passed)))
    assert max(count for _, count in counted) <= limit, f"seed {seed}: {counted}"
    assert sum(count for _, count in counted) > limit


@EACH
def test_a_share_grows_with_what_is_used(tiers, algorithm):
    world = World(tiers, 1, 10_000, 3600, algorithm=algorithm)
    asked = []
    for _ in range(9_000):
        before = world.store.calls
        assert world.hit(0)
        asked.append(world.store.calls > before)
    gaps = [number for number, one in enumerate(asked) if one]
    assert gaps[:5] == [0, 1, 6, 27, 112]  # shares of 1, 5, 21, 85, ...
    assert 20 < sum(asked) < 200
    over = RateLimiter(world.limiters[0].tier, 10_000, 3600, algorithm=algorithm)
    assert over.peek("k").remaining <= 1_000


@EACH
def test_a_machine_keeps_little_from_others(tiers, algorithm):
    """A tenth of what remains, and four times what it has used, is the most."""
    world = World(tiers, 2, 1_000, 3600, algorithm=algorithm)
    for used in range(1, 200):
        assert world.hit(0)
        share, now, _ = counter(world, 0)._read(counter(world, 0)._place("k"))
        held = counter(world, 0).left(share, now)
        assert held <= min(GROWTH * used, 1_000 // SHARE)
    passed = 0
    while world.hit(1):
        passed += 1
    spare = 1_000 // SHARE if algorithm == "bucket" else 0
    assert passed >= 1_000 - 199 - held - spare
    assert not world.hit(1)
    assert sum(world.hit(0) for _ in range(500)) == held  # and it goes on with that


def counter(world: World, machine: int) -> ShareCounter:
    found = world.limiters[machine]._counter
    assert isinstance(found, ShareCounter)
    return found


@EACH
def test_a_refusal_is_kept_until_the_store_would_allow_it(tiers, algorithm):
    world = World(tiers, 2, 20, 60, algorithm=algorithm)
    while (answer := world.limiters[0].hit("k")):
        pass
    before = world.store.calls
    assert 0 < answer.retry_after <= 120 and answer.remaining == 0
    for _ in range(50):
        again = world.limiters[0].hit("k")
        assert not again and again.retry_after == answer.retry_after
    assert not world.limiters[0].peek("k") and not world.limiters[0].test("k", 2)
    assert world.store.calls == before
    world.wait(answer.retry_after - 0.001)
    assert not world.limiters[0].hit("k") and world.store.calls == before
    world.wait(0.001)
    assert world.limiters[0].hit("k") and world.store.calls == before + 1


@EACH
def test_peek_and_test_know_the_share(tiers, algorithm):
    world = World(tiers, 2, 1_000, 3600, algorithm=algorithm)
    for _ in range(10):
        world.hit(0)
    most = 1_000 - (1_000 // SHARE if algorithm == "bucket" else 0)
    before = world.store.calls
    assert world.limiters[0].peek("k").remaining == most - 10
    assert world.limiters[0].test("k", 5) and world.store.calls == before
    held = most - 10 - world.limiters[1].peek("k").remaining
    assert held == 27 - 10
    assert world.limiters[0].test("k", most - 30).remaining == most - 10
    assert world.limiters[0].reset("k") and world.limiters[0].peek("k").remaining == most


@EACH
def test_cut_off_a_machine_goes_on_with_its_share(tiers, algorithm):
    world = World(tiers, 1, 1_000, 3600, algorithm=algorithm)
    for _ in range(27 + 1):
        world.hit(0)
    world.store.is_cut = True
    for _ in range(84):
        assert world.hit(0)
    with pytest.raises(StoreUnavailable):
        world.hit(0)
    tier = world.limiters[0].tier
    for on_error, allowed in (("allow", True), ("deny", False)):
        limiter = RateLimiter(tier, 1_000, 3600, algorithm=algorithm, machines="shares",
                              on_error=on_error)
        assert bool(limiter.hit("k")) is allowed


@pytest.mark.parametrize("algorithm", ["fixed", "sliding"])
def test_no_share_outlives_its_window(tiers, algorithm):
    """Also where the answer was under way for long."""
    world = World(tiers, 2, 100, 60, algorithm=algorithm)
    world.hit(0)
    world.wait(30)
    world.delay = lambda: 5 * S
    world.hit(0)  # asked at 30, counted at 35, answered at 40, with 4 more
    world.delay = lambda: 0
    held = counter(world, 0)
    share, now, _ = held._read(held._place("k"))
    assert held.left(share, now) == GROWTH
    world.wait(60 - 40 - 5 - 0.001)
    share, now, _ = held._read(held._place("k"))
    assert held.left(share, now) == GROWTH
    world.wait(0.001)
    share, now, _ = held._read(held._place("k"))
    assert held.left(share, now) == 0


def test_a_share_of_a_bucket_leaks(tiers):
    world = World(tiers, 1, 100, 100)  # one a second, 10 set aside
    for _ in range(6):
        world.hit(0)  # 1 and 5: the second share is used up
    world.hit(0)  # 1 of 1 + 8, a tenth of what remains of 90 - 7
    held = counter(world, 0)

    def left() -> int:
        share, now, _ = held._read(held._place("k"))
        return held.left(share, now)

    seen = []
    for _ in range(27):
        seen.append(left())
        world.wait(1)
    assert seen == [8] * 17 + [7, 6, 5, 4, 3, 2, 1, 0, 0, 0]


def test_what_several_have_leaks_one_after_the_other(tiers):
    """However long they wait: what they have and what the store then gives is a burst."""
    world = World(tiers, 2, 1_000, 1_000)  # one a second, 100 set aside
    most = 0
    for pause in range(0, 300, 7):
        key = f"k{pause}"
        for machine in (0, 1):
            assert all(world.hit(machine, key=key) for _ in range(27))  # shares of 1, 5, 21
        world.wait(60)  # all has leaked
        assert world.hit(0, key=key) and world.hit(1, key=key)  # of shares of 85
        world.wait(pause)
        world.passed.clear()
        for machine in (0, 1):
            while world.hit(machine, key=key):
                pass
        most = max(most, len(world.passed))
    assert 950 < most <= 1_000


@EACH
def test_what_a_stopped_clock_adds_is_a_share(tiers, algorithm):
    """Of a virtual machine that is stopped, and goes on in a later window: its clock knows
    nothing."""
    world = World(tiers, 2, 1_000, 60, algorithm=algorithm)
    for _ in range(200):
        world.hit(0)
    held = counter(world, 0)
    share, now, _ = held._read(held._place("k"))
    left = held.left(share, now)
    assert 0 < left <= 1_000 // SHARE
    world.offsets[0] -= 3600 * S
    world.wait(3600)
    world.passed.clear()
    while world.hit(1):
        pass
    while world.hit(0):
        pass
    assert len(world.passed) <= 1_000 + left
    assert algorithm == "bucket" or len(world.passed) == 1_000 + left


@EACH
def test_a_store_that_loses_its_data_lets_the_limit_pass_anew_and_no_more(tiers, algorithm):
    world = World(tiers, 3, 1_000, 3600, algorithm=algorithm)
    for number in range(600):
        world.hit(number % 3)
    world.store.kept.clear()
    for number in range(3_000):
        world.hit(number % 3)
    assert 1_500 < len(world.passed) <= 2_000


@EACH
def test_a_share_that_the_map_lost_is_lost(tiers, algorithm):
    world = World(tiers, 1, 1_000, 3600, algorithm=algorithm)
    for number in range(3_000):
        world.hit(0)
        if number % 50 == 49:
            world.limiters[0].map.clear()
    assert 500 < len(world.passed) <= 1_000


def test_a_share_of_another_map_counts_for_nothing(tiers, name):
    """Nor what is none."""
    store = LocalStore()
    m = ShmMap(name, size="1MB")
    limiter = RateLimiter(tiers(store, m), 1_000, 3600, machines="shares")
    for _ in range(8):
        limiter.hit("k")
    found: Any = limiter._counter
    place = found._place("k")
    kept = m[place]
    m.unlink()
    m = ShmMap(name, size="1MB")
    found = RateLimiter(tiers(store, m), 1_000, 3600, machines="shares")._counter
    for junk in (kept, b"x" * len(kept), b"", 7):
        m[place] = junk
        assert found._read(place)[0] == Share()


def test_others_take_one_each_while_a_share_is_asked_for(tiers):
    """And where the process that asks has died, another one does so soon."""
    world = World(tiers, 1, 1_000, 3600)
    world.hit(0)
    inside: list[int] = []
    real = world.store.hit

    def hit(name: bytes, algorithm: str, rate: Any, cost: int, more: int = 0, **given: Any) -> Any:
        inside.append(more)
        if len(inside) == 1:
            assert world.hit(0) and world.hit(0)  # as other processes would
            raise StoreUnavailable("killed")
        return real(name, algorithm, rate, cost, more, **given)

    world.store.hit = hit  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        world.hit(0)
    assert inside == [GROWTH, 0, 0]
    world.limiters[0].tier._breaker.passed()
    world.hit(0)
    assert inside[-1] == 0
    world.wait(shares_module.MARK_NS / S)
    world.hit(0)
    assert inside[-1] == GROWTH


def test_refused_by_the_store_it_looks_once_more_whether_a_share_has_come(tiers):
    world = World(tiers, 1, 1_000, 3600)
    held = counter(world, 0)

    def hit(*given: Any, **more: Any) -> list[Hit]:
        held._note(held._place("k"), Hit(5, 0, 10 * S, 0), 1, held._now(), is_share=True)
        return [Hit(0, 0, 10 * S, S)]

    world.store.hit = hit  # type: ignore[method-assign]
    assert [world.hit(0) for _ in range(4)] == [True] * 4 and world.store.calls == 0


@EACH
def test_a_process_that_was_stopped_puts_no_old_share_over_a_new_one(tiers, algorithm):
    world = World(tiers, 1, 1_000, 60, algorithm=algorithm)
    world.hit(0)
    held = counter(world, 0)
    asked = held._now()
    late = held._store.count("k", 1, GROWTH)  # and stopped
    world.wait(150)
    for _ in range(30):
        world.hit(0)
    share, now, _ = held._read(held._place("k"))
    assert held.left(share, now) > GROWTH
    held._note(held._place("k"), late, 1, asked, is_share=True)
    assert held._read(held._place("k"))[0] == share


def test_a_share_lasts_by_whole_microseconds_as_in_the_store(tiers):
    store = LocalStore()
    for algorithm in ALGORITHMS:
        limiter = RateLimiter(tiers(store), 20, 1.0001e-3, algorithm=algorithm, machines="shares")
        found: Any = limiter._counter
        assert found._rate.per_ns == found._store.rate.per_ns == 1_001_000


def test_what_is_left_of_a_share_is_kept_as_the_next_comes(tiers):
    world = World(tiers, 1, 1_000, 3600, algorithm="fixed")
    for _ in range(3):
        world.hit(0)  # 1, and 2 of 5
    assert world.hit(0, 4)  # 3 are left: 4 and GROWTH * 2 more
    held = counter(world, 0)
    share, now, _ = held._read(held._place("k"))
    assert held.left(share, now) == 3 + GROWTH * 2
    assert sum(world.hit(0) for _ in range(2_000)) == 1_000 - 3 - 4


def test_a_limit_of_another_size_has_shares_of_its_own(tiers):
    """And so has another store, another prefix."""
    store, tier = LocalStore(), tiers(LocalStore())
    many, few = (RateLimiter(tier, limit, 3600, machines="shares") for limit in (1_000, 12))
    assert all(many.hit("k") for _ in range(14)) and many.peek("k").remaining == 900 - 14
    assert not few.hit("k")
    store.where = "elsewhere"
    for other in (tiers(store, tier.map), tiers(store, tier.map, prefix="b:")):
        before = store.calls
        assert RateLimiter(other, 1_000, 3600, machines="shares").hit("k")
        assert store.calls == before + 1


def test_a_map_that_cannot_be_read_is_in_nobody_s_way(tiers, monkeypatch):
    world = World(tiers, 1, 5, 60)
    monkeypatch.setattr(counter(world, 0), "_read", raises(ShardBusy("its writer is stopped")))
    assert [world.hit(0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert not world.limiters[0].peek("k")
    monkeypatch.setattr(counter(world, 0), "_read", raises(MapClosed("it is closed")))
    with pytest.raises(MapClosed):
        world.hit(0)
    with pytest.raises(MapClosed):
        world.limiters[0].peek("k")


def raises(error: Exception) -> Any:
    """Return a function that raises."""
    def fail(*given: Any) -> None:
        raise error

    return fail


def test_a_map_that_cannot_be_used_is_in_nobody_s_way(tiers, name):
    store = LocalStore()
    m = ShmMap(name, size="300KB", shards=1, on_full="raise")
    limiter = RateLimiter(tiers(store, m), 5, 60, machines="shares")
    number = 0
    with pytest.raises(Exception, match="full"):
        while True:
            m[number] = b"x" * 200
            number += 1
    with pytest.raises(Exception, match="full"):
        while True:
            m[number] = 1
            number += 1
    assert [bool(limiter.hit("k")) for _ in range(7)] == [True] * 5 + [False] * 2
    assert limiter.peek("k").remaining == 0


def test_few_have_no_shares(tiers):
    """Of less than ten, a tenth is none: each hit asks, and the whole limit passes."""
    world = World(tiers, 2, 9, 3600)
    assert [world.hit(number % 2) for number in range(11)] == [True] * 9 + [False] * 2


def test_where_both_count_together_the_store_s_own_limit_holds(tiers):
    world = World(tiers, 1, 100, 3600, algorithm="fixed")
    exact = RateLimiter(world.limiters[0].tier, 100, 3600, algorithm="fixed")
    passed = sum(bool(one.hit("k")) for _ in range(150) for one in (exact, world.limiters[0]))
    assert passed == 100
