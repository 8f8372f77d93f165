"""Django's cache, its sessions and `cache_page` on a map."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shmmap

from . import upstream

django = pytest.importorskip("django")

from django.conf import settings  # noqa: E402
from django.core.cache import caches  # noqa: E402
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.test import Client, override_settings  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils.safestring import SafeString, mark_safe  # noqa: E402
from django.views.decorators.cache import cache_page  # noqa: E402

from shmmap.contrib import django as ours  # noqa: E402

BACKEND = "shmmap.contrib.django.ShmMapCache"
SUITE = Path(__file__).with_name("django_suite.py")
BY_NUMBER = "bounds the number of entries; a map is bounded in bytes"
STORES_NOTHING = "of the dummy cache: expects that nothing is stored"
INNARDS = "looks into LocMemCache"
DOES_NOT_APPLY = {
    **{f"{kind}.{test}": BY_NUMBER for kind in ("BaseTests", "AwaitedTests")
       for test in ("test_cull", "test_zero_cull", "test_cull_delete_when_store_empty")},
    **{f"LocMemTests.test_lru_{test}": BY_NUMBER for test in ("get", "set", "incr")},
    **{f"AsyncTests.test_{test}": STORES_NOTHING for test in (
        "aadd", "adecr", "adecr_version", "adelete", "aget_many", "aget_or_set", "ahas_key",
        "aincr", "aincr_version", "data_types", "expiration", "simple", "unicode",
    )},
    "LocMemTests.test_incr_decr_timeout": INNARDS,
    "LocMemTests.test_locking_on_pickle": INNARDS,
    "DefaultNonExpiringCacheKeyTests."
    "test_caches_set_with_timeout_as_none_set_non_expiring_key": INNARDS,
    "DefaultNonExpiringCacheKeyTests."
    "test_caches_with_unset_timeout_set_expiring_key": INNARDS,
}
Open = Callable[..., ours.ShmMapCache]

if not settings.configured:
    settings.configure(
        SECRET_KEY="tests", ALLOWED_HOSTS=["testserver"],
        INSTALLED_APPS=["django.contrib.sessions"],
        MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
        SESSION_ENGINE="django.contrib.sessions.backends.cache",
    )
    django.setup()


@pytest.fixture
def backend(name: str) -> Iterator[Open]:
    """Make a backend as Django does: backend(KEY_PREFIX="a", size="1MB"); the options are small."""
    def make(location: str = name, **said: Any) -> ours.ShmMapCache:
        params = {key: said.pop(key) for key in list(said) if key.isupper()}
        options = {"size": "1MB", "sweep_interval": None, **said}
        return ours.ShmMapCache(location, {"OPTIONS": options, **params})

    before = set(ours._handles)
    yield make
    for known in set(ours._handles) - before:
        ours._handles.pop(known).close()


def setting(name: str, **params: Any) -> dict[str, Any]:
    return {"BACKEND": BACKEND, "LOCATION": name, "OPTIONS": {"size": "1MB"}, **params}


def test_the_tests_of_django(tmp_path: Path) -> None:
    """BaseCacheTests, the same with every method awaited, and all that use a cache."""
    report = tmp_path / "report.json"
    done = subprocess.run([sys.executable, SUITE, upstream.fetch("Django"), report],
                          capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    upstream.compare(json.loads(report.read_text()), DOES_NOT_APPLY, passed=383)


# -- what is stored, and for how long ----------------------------------------------------


def test_timeouts(backend: Open) -> None:
    cache = backend(TIMEOUT=60)

    def left(key: str) -> Any:
        return cache.map.ttl(("", f":1:{key}"))

    cache.set("default", 1), cache.set("long", 1, 300), cache.set("never", 1, None)
    assert 59 < left("default") <= 60 and 299 < left("long") <= 300 and left("never") is None
    for timeout in (0, -1, -0.5):
        cache.set("default", 2, timeout)
        assert "default" not in cache
        assert cache.add("default", 2, timeout) is True and "default" not in cache
        cache.set("default", 1)
    assert cache.touch("default", 600) and left("default") > 599
    assert cache.touch("default", None) and left("default") is None
    assert cache.touch("default") and 59 < left("default") <= 60
    assert cache.touch("long", 0) and "long" not in cache and not cache.touch("long")
    never, nothing = backend(TIMEOUT=None), backend(TIMEOUT=0)
    never.set("a", 1), nothing.set("b", 1)
    assert left("a") is None and "b" not in cache
    cache.set("n", 1, 500)
    assert cache.incr("n") == 2 and left("n") > 499


def test_values_come_back_as_they_were(backend: Open) -> None:
    cache = backend()
    cache.set("none", None), cache.set("safe", mark_safe("<b>"))
    assert cache.get("none", "missing") is None and cache.get("other", "missing") == "missing"
    assert cache.has_key("none") and cache.get_many(["none", "other"]) == {"none": None}
    assert cache.get_or_set("none", lambda: 1) is None
    assert type(cache.get("safe")) is SafeString
    assert cache.get_many([1, "1"]) == {} and cache.set_many({1: "a"}) == []
    assert cache.get_many([1, "1"]) == {1: "a", "1": "a"}


def test_incr_needs_a_number(backend: Open) -> None:
    cache = backend()
    cache.set("text", "5"), cache.set("half", 0.5), cache.set("most", 2**63 - 1)
    with pytest.raises(TypeError):
        cache.incr("text")
    with pytest.raises(ValueError, match="'missing' not found"):
        cache.incr("missing")
    with pytest.raises(OverflowError):
        cache.incr("most")
    assert cache.decr("half", 0.25) == 0.25 and "missing" not in cache


# -- aliases, processes, threads ---------------------------------------------------------


def test_clear_spares_other_aliases_and_other_users_of_the_map(backend: Open) -> None:
    cache, other = backend(), backend(KEY_PREFIX="other")
    second = backend(KEY_PREFIX="other", VERSION=2)
    for each in (cache, other, second):
        each.set_many({"a": 1, "b": 2})
    cache.map["mine"] = 1
    cache.clear()
    assert cache.get_many(["a", "b"]) == {}
    assert other.get_many(["a", "b"]) == second.get_many(["a", "b"]) == {"a": 1, "b": 2}
    other.clear()
    assert list(cache.map) == ["mine"]


def test_delete_prefix(backend: Open) -> None:
    cache, other = backend(), backend(KEY_PREFIX="other")
    for each in (cache, other):
        each.set_many({"page:1": 1, "page:2": 2, "user:1": 3})
    cache.set("page:1", 4, version=2)
    assert cache.delete_prefix("page:") == 2 and cache.delete_prefix("page:") == 0
    assert cache.get("user:1") == 3 and cache.get("page:1", version=2) == 4
    assert len(other.get_many(["page:1", "page:2", "user:1"])) == 3
    assert asyncio.run(cache.adelete_prefix("page:", version=2)) == 1
    hashed = backend(KEY_FUNCTION=lambda key, prefix, version: str(hash(key)))
    with pytest.raises(ValueError, match="KEY_FUNCTION"):
        hashed.delete_prefix("page:")


def test_processes_count_exactly_and_one_adds(backend: Open, start: Any) -> None:
    cache = backend()
    cache.set("n", 0)

    def work(child: Any) -> bool:
        for _ in range(200):
            cache.incr("n", 2), cache.decr("n")
        return cache.add("once", 1)

    children = [start(work) for _ in range(4)]
    assert [child.end() for child in children].count(True) == 1
    assert cache.get("n") == 800


def test_a_process_has_one_handle(backend: Open, name: str) -> None:
    """Django makes a backend for each thread, and closes it at the end of each request."""
    with override_settings(CACHES={"default": setting(name), "v2": setting(name, VERSION=2)}):
        handles = [caches["default"].map, caches["v2"].map]
        threads = [threading.Thread(target=lambda: handles.append(caches["default"].map))
                   for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(handles) == 6 and {id(m) for m in handles} == {id(handles[0])}
        caches["default"].set("a", 1)
        caches.close_all()
        assert not handles[0].closed and caches["default"].get("a") == 1
        handles[0].close()
        with pytest.raises(shmmap.MapClosed):
            caches["default"].get("a")
        again = ours.ShmMapCache(name, {"OPTIONS": {"size": "1MB"}})
        assert again.map is not handles[0] and again.get("a") == 1


def test_of_two_threads_that_open_it_one_closes_its_own(
    backend: Open, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    opened = ours.open_to_evict

    def racing(name: str, options: dict[str, Any]) -> shmmap.ShmMap:
        mine = opened(name, options)
        made.append(mine)
        if len(made) == 1:
            backend()
        return mine

    monkeypatch.setattr(ours, "open_to_evict", racing)
    m = backend().map
    first, second, *_ = made
    assert m is second and first.closed and not second.closed


# -- what is refused ---------------------------------------------------------------------


@pytest.mark.parametrize(("options", "said"), [
    ({"bytes": "1MB"}, "'bytes' is no option of ShmMap; there are .*, size,"),
    ({"ttl": 60}, "say TIMEOUT"),
    ({"MAX_ENTRIES": 1000}, "bounded in bytes: say size, or capacity"),
    ({"timeout": 60}, "'timeout' is no option of ShmMap; say TIMEOUT, beside OPTIONS"),
    ({"CULL_FREQUENCY": 2}, "evicts what is used least"),
    ({"_may": (True, True)}, "'_may' is no option"),
    ({"size": "64XB"}, "64XB"),
    ({"shards": "many"}, "shards"),
])
def test_wrong_options_are_told_with_the_alias(
    name: str, options: dict[str, Any], said: str
) -> None:
    wrong = {"default": setting(name), "pages": {**setting(name), "OPTIONS": options}}
    with override_settings(CACHES=wrong), pytest.raises(
        ImproperlyConfigured, match=rf"CACHES\['pages'\]\['OPTIONS'\].*{said}"
    ):
        caches["pages"].get("a")


def test_its_repr_names_the_map_and_the_prefix(backend: Open, name: str) -> None:
    assert repr(backend(KEY_PREFIX="shop")) == f"<ShmMapCache: map {name!r}, prefix 'shop'>"


@pytest.mark.parametrize("location", ["", "a b", ["one", "two"], "/run/cache"])
def test_a_location_is_the_name_of_a_map(location: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^CACHES: an alias's .* name"):
        ours.ShmMapCache(location, {})


# -- the map in the way ------------------------------------------------------------------


def test_a_full_map_fails_no_request(
    backend: Open, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache, big = backend(size="300KB", shards=1), "x" * 1_000_000
    cache.set("a", 1), cache.set("a", big)
    assert "a" not in cache and cache.add("a", big) is False
    assert cache.set_many({"a": big, "b": 2}) == ["a"] and cache.get("b") == 2
    assert cache.get_or_set("a", lambda: big) == big
    assert cache.map.stats().uncached == {"too_large": 4} and len(caplog.records) == 1
    strict = backend(size="300KB", shards=1, strict=True)
    assert strict.map is cache.map
    for write in (strict.set, strict.add, lambda key, value: strict.set_many({key: value}),
                  lambda key, value: strict.get_or_set(key, lambda: value)):
        with pytest.raises(shmmap.EntryTooLarge):
            write("a", big)


def test_a_map_that_is_gone_is_a_miss(backend: Open) -> None:
    cache = backend()
    cache.set("n", 1)
    cache.map.unlink()  # others go over to a new one; this handle does not
    assert cache.get("n", "default") == "default" and not cache.has_key("n")
    assert cache.add("n", 1) is False and cache.touch("n") is False and not cache.delete("n")
    assert cache.get_many(["n"]) == {} and cache.set_many({"n": 1}) == ["n"]
    assert cache.delete_prefix("n") == 0 and cache.get_or_set("n", lambda: 5) == 5
    cache.set("n", 1), cache.delete_many(["n"]), cache.clear()
    with pytest.raises(ValueError, match="not found"):
        cache.incr("n")


# -- get_or_set --------------------------------------------------------------------------


def test_one_process_computes_the_others_wait(backend: Open, start: Any) -> None:
    cache = backend()

    def work(child: Any) -> str:
        def compute() -> str:
            cache.map.incr("computed")
            child.tell("computing")
            return str(child.hear())

        value = cache.get_or_set("page", compute)
        assert asyncio.run(cache.aget_or_set("page", compute)) == value
        return value

    first = start(work)
    assert first.hear() == "computing"
    others = [start(work) for _ in range(2)]
    first.tell("drawn")
    assert [child.end() for child in (first, *others)] == ["drawn"] * 3
    assert cache.map["computed"] == 1


def test_nobody_waits_for_long(
    backend: Open, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers whose values need each other would wait without end."""
    monkeypatch.setattr(ours, "PATIENCE_S", 0.05)
    cache = backend()
    slow = start(lambda child: cache.get_or_set("page", lambda: (child.tell("in"), child.hear())))
    assert slow.hear() == "in"
    assert cache.get_or_set("page", lambda: "mine") == "mine"

    async def later() -> str:
        return "mine too"

    assert asyncio.run(cache.aget_or_set("page", later)) == "mine too" and "page" not in cache
    strict = backend(strict=True)
    with pytest.raises(shmmap.LockTimeout):
        strict.get_or_set("page", lambda: "mine")
    with pytest.raises(shmmap.LockTimeout):
        asyncio.run(strict.aget_or_set("page", later))
    slow.kill()
    assert cache.get_or_set("page", lambda: "mine") == cache.get("page") == "mine"


def test_what_a_default_raises_is_raised(backend: Open) -> None:
    cache = backend()
    for error in (KeyError, shmmap.LockTimeout, SynchronousOnlyOperation):
        calls: list[int] = []

        def fail(error: type[Exception] = error, calls: list[int] = calls) -> None:
            calls.append(1)
            raise error("mine")

        with pytest.raises(error, match="mine"):
            cache.get_or_set("a", fail)
        with pytest.raises(error, match="mine"):
            asyncio.run(cache.aget_or_set("a", fail))
        assert len(calls) == 2
    with pytest.raises((TypeError, AttributeError), match="pickle"):
        cache.get_or_set("a", threading.Lock)
    with pytest.raises((TypeError, AttributeError), match="pickle"):
        asyncio.run(cache.aget_or_set("a", threading.Lock))
    assert cache.get_or_set("zero", lambda: 1, 0) == 1 and "zero" not in cache


# -- in coroutines -----------------------------------------------------------------------


class Lazy:
    """As a queryset is: what it holds is fetched when it is pickled, outside of event loops."""

    def __reduce__(self) -> Any:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return str, ("rows",)
        raise SynchronousOnlyOperation


def test_coroutines_need_no_thread(backend: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "sync_to_async", None)
    cache = backend()

    async def compute() -> int:
        return 7

    async def use() -> None:
        await cache.aset("n", 1)
        assert await cache.aget("n") == 1 and await cache.ahas_key("n")
        assert not await cache.aadd("n", 2) and await cache.atouch("n", 60)
        assert await cache.aincr("n", 2) == 3 and await cache.adecr("n") == 2
        assert await cache.aset_many({"a": 1, "b": 2}) == []
        assert await cache.aget_many(["a", "b", "c"]) == {"a": 1, "b": 2}
        assert await cache.adelete("a") and await cache.adelete_many(["b"]) is None
        assert await cache.aget_or_set("six", 6) == 6
        assert await cache.aget_or_set("seven", compute) == await cache.aget("seven") == 7
        assert await cache.aincr_version("n") == 2 and await cache.aget("n", version=2) == 2
        await cache.aclear()
        await cache.aclose()

    asyncio.run(use())
    assert len(cache.map) == 0


@pytest.mark.parametrize("strict", [False, True])
def test_what_only_a_thread_may_pickle_is_stored(backend: Open, strict: bool) -> None:
    cache = backend(strict=strict)

    async def use() -> None:
        await cache.aset("set", Lazy())
        assert await cache.aadd("add", Lazy()) and not await cache.aadd("add", 1)
        assert await cache.aset_many({"many": Lazy()}) == []
        assert isinstance(await cache.aget_or_set("called", Lazy), Lazy)
        assert await cache.aget_or_set("given", Lazy()) == "rows"

    asyncio.run(use())
    keys = ["set", "add", "many", "called", "given"]
    assert cache.get_many(keys) == dict.fromkeys(keys, "rows")


# -- Django's own users of a cache -------------------------------------------------------


@cache_page(60)
def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(os.getpid()))


def count(request: HttpRequest) -> HttpResponse:
    request.session["n"] = request.session.get("n", 0) + 1
    return HttpResponse(str(request.session["n"]))


def test_pages_and_sessions_are_those_of_all_processes(
    backend: Open, name: str, start: Any
) -> None:
    with override_settings(CACHES={"default": setting(name)},
                           ROOT_URLCONF=(path("page/", page), path("count/", count))):
        client = Client()
        assert client.get("/count/").content == b"1"

        def work(child: Any) -> list[bytes]:
            return [client.get("/count/").content, client.get("/page/").content]

        child = start(work)
        assert child.end() == [b"2", str(child.pid).encode()]
        assert client.get("/count/").content == b"3" and Client().get("/count/").content == b"1"
        assert client.get("/page/").content == str(child.pid).encode()
        client.session.flush()
        assert client.get("/count/").content == b"1"
