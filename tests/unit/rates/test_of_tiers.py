"""RateLimiter on a tier: one count for several machines, by the store's clock."""

from __future__ import annotations

import asyncio
import time
from math import inf
from typing import Any

import pytest

import shmmap
from shmmap import RateLimiter, StoreRefused, StoreUnavailable
from shmmap.counters.in_store import RATES
from shmmap.testing import LocalStore
from shmmap.tiers import redis_wire

from ...support.engines import once

pytestmark = once  # the same with either engine

EACH = pytest.mark.parametrize("algorithm", ["bucket", "fixed", "sliding", "moving"])
BOTH = pytest.mark.parametrize("machines", ["store", "shares"])


@EACH
def test_machines_count_together(tiers, store, algorithm):
    one, other = (RateLimiter(tiers(store), 3, 60, algorithm=algorithm) for _ in range(2))
    assert one.peek("ada") and one.peek("ada").remaining == 3
    hits = [limiter.hit("ada") for limiter in (one, other, one, other)]
    assert [bool(hit) for hit in hits] == [True, True, True, False]
    assert [hit.remaining for hit in hits] == [2, 1, 0, 0]
    assert 0 < hits[3].retry_after <= 120 and 0 < hits[3].reset_after <= 120
    assert "Retry-After" in hits[3].headers() and hits[3].headers()["X-RateLimit-Limit"] == "3"
    assert not one.peek("ada") and one.peek("ada").retry_after > 0
    assert one.hit("bob").remaining == 2


@EACH
@BOTH
def test_costs_and_looks(tiers, store, algorithm, machines):
    if (algorithm, machines) == ("moving", "shares"):
        pytest.skip("is refused")
    limiter, other = (
        RateLimiter(tiers(store), 9, 60, algorithm=algorithm, machines=machines) for _ in range(2)
    )
    assert limiter.test("k", 9).remaining == 9 and limiter.test("k", 9)
    assert limiter.hit("k", 7) and not other.hit("k", 4) and other.test("k", 2).remaining == 2
    assert not other.test("k", 3) and other.test("k", 3).remaining == 2 and other.hit("k", 2)
    assert limiter.hit("k", 10).retry_after == inf
    assert "Retry-After" not in limiter.hit("k", 10).headers()
    assert other.reset("k") and not limiter.reset("k")
    assert limiter.test("k", 9) and limiter.hit("k", 9)


@EACH
def test_the_store_s_clock_counts(tiers, algorithm):
    """Whatever the machines' clocks say."""
    store = LocalStore()
    now = [10**18]
    store.now_ns = lambda: now[0]
    ahead, behind = (
        RateLimiter(tiers(store), 2, 3600, algorithm=algorithm) for _ in range(2)
    )
    ahead.map.attachment.clock.frozen_ns = 10**17
    behind.map.attachment.clock.frozen_ns = 10**15
    assert ahead.hit("k") and behind.hit("k") and not ahead.hit("k")
    wait = behind.hit("k").retry_after
    now[0] += round(wait * 1e9) - 1
    assert not ahead.hit("k") and not behind.test("k")
    now[0] += 1
    assert ahead.test("k") and behind.hit("k")


def test_a_server_s_own_clock_goes_on(tiers, running):
    limiter = RateLimiter(tiers(running.client()), 1, 0.2, prefix="own clock")
    began = time.monotonic()
    assert limiter.hit("k") and not limiter.hit("k")
    while not limiter.hit("k"):
        time.sleep(0.005)
    assert 0.15 < time.monotonic() - began < 5


def test_the_names_in_the_store_are_not_the_tier_s(tiers, running):
    """Of the tier's own the server tells every machine at each change."""
    client = running.client()
    client.flushall()
    tier = tiers(client, prefix="shop:")
    limiter = RateLimiter(tier, 5, 60)
    limiter.hit("ada")
    [name] = client.keys()
    assert name.startswith(RATES + b"shop:") and 0 < client.pttl(name) <= 13_000
    for other in (
        RateLimiter(tier, 1, 60, prefix="x"), RateLimiter(tiers(client, prefix="b:"), 1, 60),
        RateLimiter(tier, 1, 61), RateLimiter(tier, 1, 60, algorithm="fixed"),
    ):
        assert other.hit("ada") and not other.hit("ada")
    assert RateLimiter(tier, 5, 60).peek("ada").remaining == 4
    with pytest.raises(ValueError, match="the tier's own"):
        RateLimiter(tier, 5, 60, prefix="shmmap.tier").hit("k")


def test_a_time_that_is_no_whole_microsecond_is_rounded_up(tiers):
    store = LocalStore()
    store.now_ns = lambda: 10**18
    limiter = RateLimiter(tiers(store), 1, 1.0001e-3, algorithm="fixed")
    assert limiter.hit("k").reset_after == 1.001e-3


@EACH
def test_a_limit_that_changes(tiers, store, algorithm):
    tier = tiers(store)
    old, new = (RateLimiter(tier, n, 3600, algorithm=algorithm) for n in (100, 200))
    assert sum(bool(old.hit("k")) for _ in range(110)) == 100
    assert new.peek("k").remaining == 100
    assert sum(bool(new.hit("k")) for _ in range(210)) == 100
    assert not RateLimiter(tier, 10, 3600, algorithm=algorithm).hit("k")


@BOTH
def test_where_the_store_cannot_be_asked(tiers, caplog, machines):
    store = LocalStore()
    tier = tiers(store)
    limiters = {
        what: RateLimiter(tier, 5, 60, on_error=what, machines=machines)
        for what in ("raise", "allow", "deny")
    }
    store.is_cut = True
    for ask in (lambda one: one.hit("k"), lambda one: one.peek("k"), lambda one: one.test("k"),
                lambda one: asyncio.run(one.ahit("k"))):
        with pytest.raises(StoreUnavailable):
            ask(limiters["raise"])
        assert ask(limiters["allow"]) and not ask(limiters["deny"])
    assert tier.map.stats().uncached == {"store": 8} and len(caplog.records) == 1
    with pytest.raises(StoreUnavailable):
        limiters["allow"].reset("k")
    store.is_cut = False
    deadline = time.monotonic() + 5
    while not limiters["deny"].hit("k"):  # it is asked again soon
        assert time.monotonic() < deadline
    tier.close()
    with pytest.raises(shmmap.MapClosed):
        limiters["allow"].hit("k")


def test_what_the_store_refuses(tiers, server):
    client = server.client()
    tier = tiers(client, prefix="shop:")
    client.set(RateLimiter(tier, 5, 60)._counter.name_of("k"), b"")
    client.delete(RateLimiter(tier, 5, 60)._counter.name_of("k"))
    client.rpush(RateLimiter(tier, 5, 60)._counter.name_of("k"), b"a list")
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        RateLimiter(tier, 5, 60).hit("k")
    assert not RateLimiter(tier, 5, 60, on_error="deny").hit("k")
    client.config_set("maxmemory", 1)
    with pytest.raises(StoreRefused, match="OOM"):
        RateLimiter(tier, 5, 60).hit("other")


def test_a_coroutine_s_loop_goes_on_while_the_store_is_asked(tiers, server):
    tier = tiers(server.client(), timeout=10)
    limiters = [RateLimiter(tier, 5, 60, machines=machines) for machines in ("store", "shares")]
    for limiter in limiters:
        limiter.hit("k")

    async def hit(limiter: RateLimiter) -> Any:
        server.stop()
        waits = asyncio.ensure_future(limiter.ahit(f"new {limiter.machines}"))
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert not waits.done()
        server.go_on()
        return await waits

    for limiter in limiters:
        assert asyncio.run(hit(limiter))


@BOTH
def test_coroutines_pass_exactly_the_limit(tiers, store, machines):
    limiter = RateLimiter(tiers(store), 50, 600, algorithm="fixed", machines=machines)

    async def hit() -> list[bool]:
        return [bool(found) for found in await asyncio.gather(*(
            limiter.ahit("k") for _ in range(80)))]

    passed = sum(asyncio.run(hit()))
    assert passed == 50 or machines == "shares"  # a share may have been under way
    while limiter.hit("k"):
        passed += 1
    assert passed == 50


def test_a_hit_whose_answer_is_lost_is_not_asked_again(tiers, running, monkeypatch):
    """It has been counted."""
    limiter = RateLimiter(tiers(running.client()), 5, 600, prefix="lost")
    limiter.hit("k")
    real: Any = redis_wire._answer_of

    def lost(connection: Any) -> Any:
        monkeypatch.setattr(redis_wire, "_answer_of", real)
        real(connection)
        raise redis_wire.redis.ConnectionError("it was cut")

    monkeypatch.setattr(redis_wire, "_answer_of", lost)
    with pytest.raises(StoreUnavailable) as raised:
        limiter.hit("k")
    assert raised.value.was_sent
    limiter._counter.tier._breaker.passed()
    assert limiter.peek("k").remaining == 3


def test_a_server_that_lost_its_scripts_and_data_counts_anew(tiers, server):
    limiter = RateLimiter(tiers(server.client()), 2, 60)
    assert [bool(limiter.hit("k")) for _ in range(3)] == [True, True, False]
    client = server.client()
    client.script_flush()
    assert not limiter.hit("k")
    client.flushall()
    assert [bool(limiter.hit("k")) for _ in range(3)] == [True, True, False]


def test_what_is_no_tier_s_limit_is_refused(tiers, make):
    m = make()
    for wrong in ("store", "shares"):
        with pytest.raises(ValueError, match=f"machines='{wrong}' is for a Tiered"):
            RateLimiter(m, 5, 60, machines=wrong)
    with pytest.raises(ValueError, match="machines='all' must be one of store, shares"):
        RateLimiter(tiers(LocalStore()), 5, 60, machines="all")
    with pytest.raises(ValueError, match=r'not for .moving., .* say machines="store"'):
        RateLimiter(tiers(LocalStore()), 5, 60, machines="shares", algorithm="moving")
    with pytest.raises(TypeError, match="handle of a map, not its name, or a Tiered"):
        RateLimiter("name", 5, 60)  # type: ignore[arg-type]


def test_a_store_that_cannot_count_is_refused_by_name(tiers):
    class Plain(LocalStore):
        hit: Any = None

    with pytest.raises(TypeError, match=r"store local \(.*Plain\) cannot count .* no method hit"):
        RateLimiter(tiers(Plain()), 5, 60)


def test_its_repr_names_the_store(tiers):
    tier = tiers(LocalStore())
    assert repr(RateLimiter(tier, 100, 60, prefix="login", machines="shares")) == (
        f"<RateLimiter: map {tier.map.name!r}, store local, machines='shares', prefix 'login', "
        "100 in 60 s, bucket>")
    assert RateLimiter(tier, 100, 60).machines == "store"
