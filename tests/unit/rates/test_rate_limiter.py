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
    while m.get_versioned(("rate", "k"))[1] < 1000:
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


def test_prefixes_and_algorithms_do_not_meet(make):
    m = make()
    one, other = RateLimiter(m, 1, 60), RateLimiter(m, 1, 60, prefix="other")
    assert one.hit("k") and other.hit("k") and not one.hit("k")
    assert RateLimiter(m, 1, 60, algorithm="fixed").hit("k")  # what another algorithm has left
    m[("rate", "mine")] = "text"
    with pytest.raises(TypeError, match="holds a str, no rate: give the limiter another prefix"):
        one.hit("mine")


@pytest.mark.parametrize("wrong", [
    {"limit": 0}, {"limit": 1.5}, {"limit": True}, {"per": 0}, {"algorithm": "leaky"},
    {"limit": 100_001, "algorithm": "moving"}, {"burst": 0}, {"burst": 3, "algorithm": "fixed"},
    {"on_error": "shrug"},
])
def test_what_is_no_limit_is_refused(make, wrong: dict[str, Any]):
    given = {"limit": 5, "per": 60, **wrong}
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RateLimiter(make(), given.pop("limit"), **given)
    with pytest.raises(ValueError, match="cost"):
        RateLimiter(make(), 5, 60).hit("k", 0)


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
