"""What a user writes: it must pass `mypy --strict`, with the types that are asserted here."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, MutableMapping, ValuesView
from typing import Any

from typing_extensions import assert_type

import shmmap
from shmmap import (
    DumpReport,
    Lock,
    MapFull,
    MergeReport,
    ShmMap,
    Stats,
    SweepReport,
    cached,
)


def open_it() -> ShmMap:
    first = ShmMap("sessions", size="64MB", ttl=30, on_full="evict", mode=0o600)
    assert_type(ShmMap.create("other", capacity=1000, value_size=100), ShmMap)
    assert_type(ShmMap.attach("other", lock_timeout=0.5), ShmMap)
    ShmMap.attach("other", near=100, near_copy=True, consistency="bounded", max_staleness=0.5)
    assert_type(first.name, str)
    assert_type(shmmap.ENGINE, str)
    return first


def use_it(m: ShmMap) -> None:
    m["a"] = 1
    del m["a"]
    assert_type("a" in m, bool)
    assert_type(len(m), int)
    assert_type(m.add("a", 1, ttl=2.5), bool)
    assert_type(m.replace("a", 1), bool)
    assert_type(m.delete("a"), bool)
    assert_type(m.touch("a", None), bool)
    assert_type(m.incr("n", 5, initial=2, ttl=60), int)
    assert_type(m.incr("f", 0.5), float)
    assert_type(m.decr("n", create=False), int)
    assert_type(m.decr("f", 2, 0.5), float)
    m.apply("a", lambda a: shmmap.DELETE if a is None else a, default=dict, ttl=5)
    with m.edit("a", default=dict, timeout=1, lease=30) as a:
        a["k"] = 1
        a += 1
    m.get_and_touch("a", 60, default=1)
    m.getdel("a")
    assert_type(m.ttl("a"), float | None)
    value, version = m.get_versioned("a")
    assert_type(version, int)
    assert_type(m.cas("a", value, version), bool)
    m.get("a", 1, consistency="session")
    m.get("a", consistency="bounded", max_staleness=2)
    assert_type(m.get_many(["a", "b"]), dict[Any, Any])
    m.set_many({"a": 1}, ttl=1)
    assert_type(m.delete_many(["a"]), int)
    m.setdefault("a", []).append(1)
    with m.lock("job", timeout=1, lease=30) as lock:
        assert_type(lock, Lock)
        assert_type(lock.token, int)
        assert_type(lock.held, bool)
    m.get_or_set("a", lambda: 1, ttl=5, stale=1, timeout=2, strict=True)
    m.update(b=2)
    m |= {"c": 3}
    assert_type(m | {"d": 4}, dict[Any, Any])


def cache_it(m: ShmMap) -> str:
    @cached(m, ttl=60)
    def describe(n: int, loud: bool = False) -> str:
        return f"{n}{'!' if loud else ''}"

    @cached(lambda: m, key=lambda n: n)
    async def fetch(n: int) -> bytes:
        return bytes(n)

    class Page:
        @cached(m, version=2, prefix="draw", condition=lambda text: text, strict=True)
        def draw(self, size: int) -> str:
            return "drawn" * size

        @classmethod
        @cached(m)
        def count(cls) -> int:
            return 1

    async def use() -> None:
        assert_type(await fetch(3), bytes)
        assert_type(await fetch.refresh(3), bytes)

    assert_type(Page().draw(3), str)
    assert_type(Page.count(), int)
    assert_type(describe.refresh(1, loud=True), str)
    assert_type(describe.cache_info().hits, int)
    assert_type(describe.cache_info().uncached, dict[str, int])
    describe.cache_clear()
    assert_type(describe.invalidate(1), bool)
    assert_type(describe(1, loud=True), str)
    describe.key_for(2)
    return describe(2)


def look_at_it(m: ShmMap) -> Iterator[Any]:
    plain: MutableMapping[Any, Any] = m
    keys: KeysView[Any] = m.keys()
    values: ValuesView[Any] = m.values()
    items: ItemsView[Any, Any] = m.items()
    assert len(plain) == len(keys) == len(values) == len(items)
    yield from m
    yield from (key for key, value in m.items() if value)
    unreadable: list[Any] = []
    yield from m.items(on_unreadable="skip")
    yield from m.values(on_unreadable=lambda error: unreadable.append(error.key))
    assert_type(m.get_many(["a"], on_unreadable="skip"), dict[Any, Any])
    yield from m.snapshot(on_unreadable=unreadable.append).values()


def copy_it(m: ShmMap) -> int:
    dumped: DumpReport = m.dump("sessions.dump")
    assert_type(dumped.seconds, float)
    again = ShmMap.load("sessions.dump", "again", size="1MB", ttl=5)
    assert_type(again, ShmMap)
    merged: MergeReport = m.merge(again)
    assert_type(m.merge("sessions.dump"), MergeReport)
    assert_type(merged.written, int)
    return dumped.entries + merged.older


def care_for_it() -> list[str]:
    with ShmMap("sessions", ephemeral=True) as m:
        assert_type(m, ShmMap)
        try:
            m.set("k", "v", ttl=None)
        except MapFull as error:
            print(error)
        report: SweepReport = m.sweep()
        stats: Stats = m.stats()
        assert_type(report.expired, int)
        assert_type(report.longest_step, float)
        assert_type(stats.hits, int)
        assert_type(stats.near_hits, int)
        assert_type(stats.workers, tuple[int, ...])
        problems = m.check()
        m.repair()
        m.unlink()
    return problems
