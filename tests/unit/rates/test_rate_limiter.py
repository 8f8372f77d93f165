"""RateLimiter on a map: what is counted by whom, what is left, what fails."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import timedelta
from math import inf
from typing import Any

import pytest

import shmmap
from shmmap import RateLimiter

EACH = pytest.mark.parametrize("algorithm", ["bucket", "fixed", "sliding", "moving"])


@EACH
def test_the_limit_and_its_headers(make, freeze, algorithm):
    m = make()
    clock = freeze(m)
    limiter = RateLimiter(m, 3, per=timedelta(seconds=60), algorithm=algorithm)
    hits = [limiter.hit("ada") for _ in range(4)]
    assert [bool(hit) for hit in hits] == [True, True, True, False]
    assert [hit.remaining for hit in hits] == [2, 1, 0, 0]
    assert hits[0].headers()["X-RateLimit-Limit"] == "3" and "Retry-After" not in hits[0].headers()
    assert hits[3].headers()["Retry-After"] == str(-(-int(hits[3].retry_after * 1000) // 1000))
    assert limiter.hit("bob") and limiter.peek("ada") == limiter.peek("ada")
    clock.advance(hits[3].retry_after - 0.001)
    assert not limiter.test("ada")
    clock.advance(0.001)
    assert limiter.test("ada") and limiter.hit("ada")
    clock.advance(200)
    assert limiter.peek("ada").remaining == 3
    m.sweep()
    assert len(m) == 0  # nothing is left of it


@EACH
def test_costs(make, algorithm):
    limiter = RateLimiter(make(), 10, per=60, algorithm=algorithm)
    assert limiter.hit("k", 7) and not limiter.hit("k", 4) and limiter.hit("k", 3)
    assert limiter.hit("k", 11).retry_after == inf and "Retry-After" not in (
        limiter.hit("k", 11).headers())
    assert limiter.reset("k") and not limiter.reset("k")
    assert limiter.test("k", 10).remaining == 10 and limiter.hit("k", 10)


def test_a_burst(make, freeze):
    m = make()
    clock = freeze(m)
    limiter = RateLimiter(m, 60, per=60, burst=2)
    assert [bool(limiter.hit("k")) for _ in range(3)] == [True, True, False]
    clock.advance(1)
    assert limiter.hit("k") and not limiter.hit("k")


@EACH
def test_four_processes_pass_exactly_the_limit(make, algorithm):
    m = make(size="4MB")
    limiter, passed = RateLimiter(m, 500, per=600, algorithm=algorithm), []
    pids = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            try:
                m.incr("passed", sum(bool(limiter.hit("k")) for _ in range(300)))
                os._exit(0)
            finally:
                os._exit(1)
        pids.append(pid)
    for pid in pids:
        passed.append(os.waitpid(pid, 0)[1])
    assert passed == [0] * 4 and m["passed"] == 500


def test_the_killed_hold_nothing(make):
    m = make()
    limiter = RateLimiter(m, 10**6, per=600)
    pids = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            while True:
                limiter.hit("k")
        pids.append(pid)
    while limiter.peek("k").remaining > 10**6 - 1000:
        pass
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    before = limiter.peek("k").remaining
    assert limiter.hit("k") and before - 2 <= limiter.peek("k").remaining <= before + 1000
    assert m.check() == []


@pytest.mark.parametrize("codec", ["safe", "json", "msgpack"])
@EACH
def test_any_map_will_do(make, codec, algorithm):
    """Whatever its codec, its near cache and its ttl."""
    m = make(codec=codec, near=10, ttl=0.001)
    limiter = RateLimiter(m, 2, 60, algorithm=algorithm)
    assert [bool(limiter.hit("k")) for _ in range(3)] == [True, True, False]


def test_coroutines(make):
    limiter = RateLimiter(make(), 5, per=60)

    async def hit() -> list[bool]:
        return [bool(found) for found in await asyncio.gather(*(
            limiter.ahit("k") for _ in range(8)))]

    assert sum(asyncio.run(hit())) == 5


def test_prefixes_algorithms_and_times_do_not_meet(make):
    m = make()
    one, other = RateLimiter(m, 1, 60), RateLimiter(m, 1, 60, prefix="other")
    assert one.hit("k") and other.hit("k") and not one.hit("k")
    for more in (RateLimiter(m, 1, 60, algorithm="fixed"), RateLimiter(m, 1, 3600)):
        assert more.hit("k") and not more.hit("k") and not one.hit("k")
        assert more.reset("k") and not one.test("k")
    m[("rate", "bucket/60s", "mine")] = "text"
    with pytest.raises(TypeError, match="holds a str, no rate: give the limiter another prefix"):
        one.hit("mine")


@EACH
def test_a_deploy_that_changes_the_limit_forgets_no_hit(make, freeze, algorithm):
    """And during it, old workers and new ones count together."""
    m = make()
    clock = freeze(m)
    old, new = (RateLimiter(m, n, 3600, algorithm=algorithm) for n in (100, 200))
    assert sum(bool(old.hit("k")) for _ in range(110)) == 100
    assert new.peek("k").remaining == 100 and not old.peek("k")
    assert sum(bool(new.hit("k")) for _ in range(210)) == 100
    fewer = RateLimiter(m, 10, 3600, algorithm=algorithm)
    answer = fewer.hit("k")
    longest = {"bucket": 360, "fixed": 3600, "moving": 3600, "sliding": 7200}[algorithm]
    assert not answer and answer.remaining == 0 and 0 < answer.retry_after <= longest
    clock.advance(answer.retry_after - 1e-6)
    assert not fewer.hit("k")
    clock.advance(2e-6)
    assert fewer.hit("k")


def test_a_rate_of_seconds_after_one_of_days(make, freeze):
    """Of one prefix, as "5 a second and 20 a day" are written, and after a deploy from one to the
    other: neither locks the other's keys out."""
    m = make()
    clock = freeze(m)
    day, second = RateLimiter(m, 20, 86_400), RateLimiter(m, 5, 1)
    passed = 0
    for _ in range(300):
        passed += bool(second.hit("k") and day.hit("k"))
        clock.advance(0.02)
    assert passed == 20
    answer = [second.hit("k") for _ in range(6)][-1]
    assert not answer and answer.retry_after <= 0.2
    clock.advance(0.2)
    assert second.hit("k")


@EACH
def test_peek_is_true_where_a_hit_would_be(make, freeze, algorithm):
    m = make()
    clock = freeze(m)
    limiter = RateLimiter(m, 2, per=60, algorithm=algorithm)
    for left in (2, 1, 0):
        found = limiter.peek("k")
        assert bool(found) is bool(limiter.test("k")) is (left > 0)
        assert found.remaining == limiter.test("k").remaining == left
        limiter.hit("k")
    found = limiter.peek("k")
    assert not found and 0 < found.retry_after == limiter.test("k").retry_after
    assert "Retry-After" in found.headers()
    clock.advance(found.retry_after)
    assert limiter.peek("k") and limiter.peek("k").remaining >= 1


@pytest.mark.parametrize("wrong", [
    {"limit": 0}, {"limit": 1.5}, {"limit": True}, {"per": 0}, {"algorithm": "leaky"},
    {"limit": 100_001, "algorithm": "moving"}, {"burst": 0}, {"burst": 3, "algorithm": "fixed"},
    {"burst": True}, {"burst": 1 << 32}, {"limit": 1 << 32}, {"on_error": "shrug"},
])
def test_what_is_no_limit_is_refused(make, wrong: dict[str, Any]):
    given = {"limit": 5, "per": 60, **wrong}
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RateLimiter(make(), given.pop("limit"), **given)
    with pytest.raises(ValueError, match="cost"):
        RateLimiter(make(), 5, 60).hit("k", 0)


def test_a_bucket_that_takes_a_lifetime_to_leak_is_refused(make):
    m, year = make(), 86_400 * 365
    with pytest.raises(ValueError, match=r"burst=1,000 with limit=1 and per=31536000 is too much: "
                       r"that many come back in 3.15e\+10 seconds, .* less than 3e\+09"):
        RateLimiter(m, 1, year, burst=1000)
    limiter = RateLimiter(m, 1, year, burst=95)  # the most that goes
    assert limiter.hit("k", 95) and not limiter.hit("k")
    assert limiter.peek("k").reset_after == pytest.approx(95 * year)


def test_where_the_map_cannot_be_used(make, caplog):
    m = make(size="300KB", shards=1)
    number = 0
    with pytest.raises(shmmap.MapFull):
        while True:
            m[number] = b"x" * 200
            number += 1
    with pytest.raises(shmmap.MapFull):
        while True:
            m[number] = 1
            number += 1
    with pytest.raises(shmmap.MapFull):
        RateLimiter(m, 5, 60).hit("k")
    assert RateLimiter(m, 5, 60, on_error="allow").hit("k")
    assert not RateLimiter(m, 5, 60, on_error="deny").hit("k")
    assert m.stats().uncached == {"full": 2} and len(caplog.records) == 1
    m.close()
    with pytest.raises(shmmap.MapClosed):
        RateLimiter(m, 5, 60, on_error="allow").hit("k")


def test_what_is_too_large_will_never_be_counted(make, caplog):
    m = make(size="300KB", shards=1)
    limiter = RateLimiter(m, 100_000, 60, algorithm="moving", on_error="allow")
    assert limiter.hit("k", 90_000) and m.stats().uncached == {"too_large": 1}
    assert "'k' cannot be counted (EntryTooLarge: " in caplog.text
    assert "just now" not in caplog.text


def test_its_repr_names_the_map_and_the_rate(make):
    m = make()
    assert repr(RateLimiter(m, 100, timedelta(minutes=1), prefix="login")) == (
        f"<RateLimiter: map {m.name!r}, prefix 'login', 100 in 60 s, bucket>")
