"""aiocache on a map."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shmmap

from ..support.children import Child, Children
from . import upstream

aiocache = pytest.importorskip("aiocache")

from aiocache import Cache, cached, cached_stampede, caches, multi_cached  # noqa: E402
from aiocache.lock import OptimisticLock, OptimisticLockError, RedLock  # noqa: E402
from aiocache.serializers import (  # noqa: E402
    JsonSerializer,
    PickleSerializer,
    StringSerializer,
)

from shmmap.contrib.aiocache import ShmMapCache  # noqa: E402

PLUGIN = Path(__file__).parent / "plugins" / "aiocache_suite.py"
COPIED = "asks for the very object that was stored; what is read of a map is a copy"
VERSION = "looks at a lock's token, which is a version here, and not the value"


@pytest.fixture
def cache(name: str) -> Iterator[ShmMapCache]:
    opened = ShmMapCache(name, size="1MB")
    yield opened
    opened.map.close()


class Thing:
    """Equal to nothing but itself, as most objects are."""


def test_the_tests_of_aiocache(tmp_path: Path) -> None:
    """The acceptance tests, as its memory cache runs them."""
    folder = upstream.fetch("aiocache")
    names = [f"acceptance/test_{part}" for part in
             ("base", "decorators", "factory", "lock", "plugins", "serializers")]
    found = upstream.run(folder, names, tmp_path / "report.xml", PLUGIN,
                         "-m", "not redis and not memcached")
    upstream.compare(found, {
        "TestMemoryOptimisticLock.test_acquire_key_builder": VERSION,
        **{f"TestNullSerializer.test_{operation}_types[{value}]": COPIED
           for operation in ("set_get", "add_get", "multi_set_multi_get")
           for value in ("2.0", "hi", "obj4", "obj5", "obj6")},
    }, passed=146)


def test_processes_share_it(cache: ShmMapCache, start: Children) -> None:
    async def add() -> Any:
        await cache.set("page", {"title": "Home"})
        with pytest.raises(ValueError, match="already exists"):
            await cache.add("page", 1)
        return await cache.increment("hits", 2), await cache.multi_get(["page", "none"])

    assert start(lambda child: asyncio.run(add())).end() == (2, [{"title": "Home"}, None])
    assert asyncio.run(cache.get("page")) == {"title": "Home"}
    assert asyncio.run(cache.increment("hits", -3)) == -1


def test_ttls(cache: ShmMapCache) -> None:
    minute = ShmMapCache(cache.map, ttl=60)

    async def write() -> None:
        await cache.set("kept", 1)
        await minute.multi_set([("default", 1), ["two", 2]])
        await minute.set("hour", 1, ttl=3600)
        await minute.set("zero", 1, ttl=0)
        await minute.add("added", 1)
        await minute.increment("counted")
        assert await minute.expire("kept", 30) and not await minute.expire("none", 30)
        await minute.expire("two", 0)

    asyncio.run(write())
    ttls = {key: round(left) for key in cache.map if (left := cache.map.ttl(key)) is not None}
    assert ttls == {"default": 60, "hour": 3600, "added": 60, "counted": 60, "kept": 30}
    assert ShmMapCache(shmmap.ShmMap.attach(cache.map.name, ttl=5)).ttl == 5


def test_clear_spares_what_is_not_its_own(cache: ShmMapCache) -> None:
    users = ShmMapCache(cache.map, namespace="user:")
    pages = ShmMapCache(cache.map, prefix="page")

    async def work() -> None:
        await users.set("a", 1), await pages.set("a", 2), await cache.set("a", 3)
        await cache.raw("update", {1: 1, ("user:", 2): 2})
        assert await users.clear()
        assert await pages.get("a") == 2 and await cache.get("a") == 3
        assert not await users.exists("a") and await cache.exists(1)
        assert await pages.clear(namespace="a") and await pages.delete("a") == 0
        await cache.multi_set([(f"n{number}", number) for number in range(1200)])
        turns = []
        clearing = asyncio.create_task(cache.clear())
        while not clearing.done():
            turns.append(1)
            await asyncio.sleep(0)
        assert await clearing and len(turns) > 2 and len(cache.map) == 0

    asyncio.run(work())


@pytest.mark.parametrize("serializer", [StringSerializer, JsonSerializer], ids=["str", "json"])
def test_counters_and_serializers(cache: ShmMapCache, serializer: Any) -> None:
    cache.serializer = serializer()
    number = str if serializer is StringSerializer else int

    async def count() -> None:
        await cache.set("set", 5)
        assert await cache.increment("set", 2) == 7 and await cache.get("set") == number(7)
        assert await cache.increment("new", 2) == 2 and await cache.get("new") == number(2)
        assert await cache.multi_get(["set", "new"]) == [number(7), number(2)]
        await cache.set("text", "seven")
        with pytest.raises(TypeError, match="not an integer"):
            await cache.increment("text")

    asyncio.run(count())


def test_pickles_that_the_serializer_makes(cache: ShmMapCache) -> None:
    pickling = ShmMapCache(cache.map, serializer=PickleSerializer())
    asyncio.run(pickling.set("page", {"a": 1}))
    assert asyncio.run(pickling.get("page")) == {"a": 1}
    assert isinstance(cache.map["page"], bytes)


def test_an_optimistic_lock_sees_every_write(cache: ShmMapCache) -> None:
    """One of the same value, too, and one of an object that is equal to nothing."""
    async def work() -> None:
        await cache.set("page", Thing())
        async with OptimisticLock(cache, "page") as lock:
            assert await lock.cas("first", ttl=60)
        assert 59 < (cache.map.ttl("page") or 0) <= 60
        with pytest.raises(OptimisticLockError):
            async with OptimisticLock(cache, "page") as lock:
                await cache.set("page", "second"), await cache.set("page", "first")
                await lock.cas("mine")
        assert await cache.get("page") == "first"
        async with OptimisticLock(cache, "none") as lock:
            await cache.set("none", 1)
            assert await lock.cas(2)

    asyncio.run(work())


def test_a_red_lock_is_left_by_its_holder_only(cache: ShmMapCache, start: Children) -> None:
    def work(child: Child) -> None:
        async def hold() -> None:
            async with RedLock(cache, "page", lease=60):
                child.tell("held")
                child.hear()

        asyncio.run(hold())

    child = start(work)
    assert child.hear() == "held"

    async def other() -> Any:
        async with RedLock(cache, "page", lease=0.01):  # waits for tasks of its process only
            pass
        return await cache.get("page-lock")

    assert asyncio.run(other()) is not None
    child.tell("leave")
    child.result()
    assert asyncio.run(cache.get("page-lock")) is None


def test_decorators(name: str) -> None:
    asked: list[Any] = []

    async def draw(number: int) -> str:
        asked.append(number)
        await asyncio.sleep(0)
        return f"page {number}"

    async def draw_many(keys: list[int]) -> dict[int, str]:
        return {key: await draw(key) for key in keys}

    options = {"cache": ShmMapCache, "name": name, "size": "1MB"}

    async def work() -> None:
        one = cached(ttl=60, namespace="one:", **options)(draw)
        assert await asyncio.gather(one(1), one(2)) == [await one(1), await one(2)]
        stampede = cached_stampede(lease=5, namespace="herd:", **options)(draw)
        assert await asyncio.gather(*(stampede(3) for _ in range(5))) == ["page 3"] * 5
        many = multi_cached("keys", namespace="many:", **options)(draw_many)
        assert await many(keys=[4, 5]) == await many(keys=[5, 4]) == {4: "page 4", 5: "page 5"}

    asyncio.run(work())
    assert asked == [1, 2, 3, 4, 5]
    with shmmap.ShmMap.attach(name) as m:
        assert sorted(key[:4] for key in m) == ["herd", "many", "many", "one:", "one:"]


def test_configuration(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "_caches", {})
    monkeypatch.setattr(caches, "_config", {})
    caches.set_config({"default": {
        "cache": "shmmap.contrib.aiocache.ShmMapCache", "name": name, "size": "1MB", "ttl": 60,
        "serializer": {"class": "aiocache.serializers.JsonSerializer"},
        "plugins": [{"class": "aiocache.plugins.HitMissRatioPlugin"}],
    }})
    one = caches.get("default")
    asyncio.run(one.set("page", [1]))
    assert asyncio.run(one.get("page")) == [1] and one.map["page"] == "[1]"
    other = Cache.from_url(f"shmmap:///{name}?size=1MB&ttl=30&timeout=1")
    assert isinstance(other, ShmMapCache) and other.map.name == name
    assert (other.ttl, other.timeout, one.timeout) == (30, 1, None)
    assert isinstance(Cache(ShmMapCache, name=name), ShmMapCache)
    with pytest.raises(TypeError, match="arbitrary"):
        ShmMapCache(name, arbitrary=1)


def test_raw_calls_the_map(cache: ShmMapCache) -> None:
    async def draw() -> str:
        return f"drawn by {os.getpid()}"

    async def work() -> Any:
        async with cache:  # closes nothing, as aiocache has it
            await cache.raw("set", "page", 1)
        return await cache.raw("aget_or_set", "other", draw), await cache.raw("get", "page")

    assert asyncio.run(work()) == (f"drawn by {os.getpid()}", 1)


def refuse(*_: Any, **__: Any) -> Any:
    """Stand for an operation of a map that is in the way."""
    raise shmmap.LockTimeout("a process that holds the shard was stopped")


def test_a_map_in_the_way_fails_no_request(
    cache: ShmMapCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = "x" * 2_000_000

    async def work() -> None:
        assert await cached(cache=ShmMapCache, name=cache.map)(give)() == big
        assert await cache.set("page", big) is False and await cache.get("page") is None
        await cache.set("page", "text")
        for method in ("get_versioned", "cas", "apply"):
            monkeypatch.setattr(cache.map, method, refuse)
        monkeypatch.setattr(cache._part, "keys", refuse)
        assert await cache.increment("page") == 1
        monkeypatch.setattr(cache.map, "incr", refuse)
        assert await cache.increment("new", 3) == 3 and await cache.clear() is False
        async with OptimisticLock(cache, "page") as lock:
            assert await lock.cas(1)  # as if there was none
        assert not await cache.set("page", 1, _cas_token=2)
        assert await cache._redlock_release("page", 1) == 0

    async def give() -> str:
        return big

    asyncio.run(work())
    assert cache.map.stats().uncached == {"too_large": 2, "busy": 6}
    monkeypatch.undo()
    with pytest.raises(shmmap.EntryTooLarge):
        asyncio.run(ShmMapCache(cache.map, strict=True).set("page", big))
