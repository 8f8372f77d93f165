"""@cached: cache_clear, refresh, version, prefix, condition, cache_info."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import shmmap
from shmmap import generation

from .functions import plain, slow


def numbers(m: Any) -> list[Any]:
    return [key for key in m if isinstance(key, str) and key.startswith(generation.MARK)]


def test_clearing_drops_the_results_of_one_function(make):
    m = make()
    f, calls = plain(m, prefix="f")
    g, others = plain(m, prefix="g")
    m["mine"] = 1
    for n in range(10):
        f(n), g(n)
    f("x" * 5000)  # by its digest
    f.cache_clear()
    assert len(m) == 1 + 10 + 1 and m["mine"] == 1, "what nobody finds any more was removed"
    f(1), f(1), g(1)
    assert len(calls) == 12 and len(others) == 10
    assert f.cache_info() == (1, 12, {}) and g.cache_info() == (1, 10, {})
    f.cache_clear(), f.cache_clear()
    assert numbers(m) == [f"{generation.MARK}:g"]


@pytest.mark.parametrize("how", [
    {}, {"near": 10}, {"near": 10, "consistency": "bounded", "max_staleness": 60},
], ids=str)
def test_it_counts_for_every_worker_at_once(make, start, how):
    m = make(**how)
    f, calls = plain(m)

    def work(child: Any) -> Any:
        for _ in range(3):
            child.tell((f(1), len(calls)))
            child.hear()
        return len(calls)

    f(1)
    child = start(work)
    assert child.hear() == ("(1,) []", 1)
    f.cache_clear()
    child.tell("go on")
    assert child.hear() == ("(1,) []", 2), "the other worker computes it anew"
    f.cache_clear()
    f(1)
    child.tell("go on")
    assert child.hear() == ("(1,) []", 2), "and finds what was computed since"
    child.tell("end")
    assert child.result() == 2
    child.reap()


def test_what_was_being_computed_is_dropped_too(make):
    m = make()
    begun, end = threading.Event(), threading.Event()
    calls: list[int] = []

    @shmmap.cached(m)
    def f(n: int) -> int:
        calls.append(n)
        begun.set()
        end.wait(20)
        return len(calls)

    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(f(1)))
    thread.start()
    assert begun.wait(20)
    f.cache_clear()
    end.set()
    thread.join()
    assert results == [1] and f(1) == 2 and f(1) == 2


def test_a_lost_generation_loses_results_and_brings_none_back(make):
    m = make()
    f, calls = plain(m)
    f(1)
    old = f.key_for(1)
    f.cache_clear()
    m[old] = "from before the clearing"  # as a worker stores it that was computing it
    assert f(1) == "(1,) []" and len(calls) == 2
    for lose in (lambda: m.delete(numbers(m)[0]), m.clear, lambda: m.set(numbers(m)[0], "else's")):
        f(1)
        before = len(calls)
        lose()
        assert f(1) == f(1) == "(1,) []" and len(calls) == before + 1 and f.key_for(1) != old
    assert m.get(old) != "from before the clearing" or f(1) == "(1,) []"


@pytest.mark.parametrize("whose", ["the map's", "the handle's"])
def test_the_generation_lives_as_long_as_results_do(make, freeze, whose):
    m = make(max_age=100 if whose == "the map's" else None)
    if whose == "the handle's":
        m = shmmap.ShmMap(m.name, max_age=100)
    clock = freeze(m)
    f, calls = plain(m, ttl=None)
    f(1)
    for _ in range(3):
        clock.advance(60)
        f("new", _)
        m.sweep()
        before = len(calls)
        f("new", _)
        assert len(calls) == before and len(numbers(m)) == 1
    clock.advance(101)
    m.sweep()
    assert len(m) == 0


def test_a_map_without_room_for_the_generation_fails_no_call(make, caplog):
    m = make(size="300KB", shards=1)
    with pytest.raises(shmmap.MapFull):
        for number in range(10**5):
            m[number] = bytes(100)
    f, calls = plain(m)
    assert f(1) == f(1) == "(1,) []" and len(calls) == 2
    assert m.stats().uncached == {"full": 2} and "MapFull" in caplog.text
    m.clear()
    assert f(1) == f(1) and len(calls) == 3


def test_refresh_computes_anew_and_others_get_the_former_one_meanwhile(make):
    m = make()
    inside: list[Any] = []
    calls: list[int] = []

    @shmmap.cached(m, ttl=60)
    def f(n: int) -> int:
        calls.append(n)
        if len(calls) == 2:
            inside.append(f(n))
        return len(calls)

    assert f(1) == 1
    assert f.refresh(n=1) == 2 and inside == [1]
    assert f(1) == 2 and f.refresh(5) == 3 == f(5)
    assert f.cache_info() == (3, 3, {})


def test_refresh_of_a_coroutine(make):
    f, calls = slow(make(), 0.0)

    async def main() -> list[int]:
        return [await f(1), await f.refresh(1), await f(1)]

    assert asyncio.run(main()) == [2, 2, 2] and calls == [1, 1]
    assert f.cache_info() == (1, 2, {})


def test_refresh_never_fails_the_call(make):
    m = make()
    big = bytes(10**7)
    f: Any = shmmap.cached(m, prefix="big")(lambda n: big)
    assert f.refresh(1) is big and f.refresh([1]) is big
    assert m.stats().uncached == {"too_large": 1, "no_key": 1}
    m.unlink()
    assert f.refresh(1) is big


def test_a_version_keeps_releases_apart(make):
    m = make()
    one, two, none = (
        shmmap.cached(m, prefix="f", version=version)(lambda n, v=version: v)
        for version in (1, 2, None)
    )
    for _ in range(2):
        assert (one(5), two(5), none(5)) == (1, 2, None)
    two.cache_clear()
    assert one.cache_info().misses == 1
    one(5), two(5)
    assert one.cache_info().misses == 1 and two.cache_info().misses == 2


def test_functions_of_one_prefix_share_their_results(make):
    m = make()
    one: Any = shmmap.cached(m, prefix="shared")(lambda n: "one")
    two: Any = shmmap.cached(m, prefix="shared")(lambda n: "two")
    assert one(5) == two(5) == "one" and two.key_for(5) == one.key_for(5)
    assert two.key_for(5)[:2] == ("shared", None)
    two.cache_clear()
    assert two(5) == one(5) == "two"


@pytest.mark.parametrize("awaited", [False, True])
def test_a_condition_says_which_results_are_kept(make, awaited):
    m = make()
    calls: list[int] = []

    def compute(n: int) -> int | None:
        calls.append(n)
        return n if n > 0 else None

    async def compute_later(n: int) -> int | None:
        return compute(n)

    decorate: Any = shmmap.cached(m, condition=lambda result: result is not None)
    f: Any = decorate(compute)
    if awaited:
        later = decorate(compute_later)
        f = lambda n: asyncio.run(later(n))  # noqa: E731
    assert (f(1), f(1), f(-1), f(-1)) == (1, 1, None, None)
    assert calls == [1, -1, -1] and m.stats().uncached == {}


def test_what_a_condition_raises_reaches_the_caller(make):
    f, calls = plain(make(), condition=lambda result: 1 / 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            f(1)
    assert len(calls) == 2
