"""What an operation is about, when two values are equal, and how long what is copied lives."""

from __future__ import annotations

import tempfile
import time
from collections import OrderedDict
from types import MappingProxyType
from typing import Any

import pytest

from shmmap import Mirror
from shmmap.contrib.alike import LikeDiskcache, LikeRedis
from shmmap.mirroring import sides
from shmmap.mirroring.operations import Operation, Place
from shmmap.mirroring.sides import Outcome


class Plain:
    def __init__(self) -> None:
        self.x = 1


NAN = float("nan")
EQUAL = [
    (NAN, NAN), ({"x": [NAN]}, {"x": [NAN]}), (Plain(), Plain()), ([1, (2, {3})], [1, (2, {3})]),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ({1, 2}, {2, 1}), (None, None), (b"x", b"x"),
    (OrderedDict(a=1), OrderedDict(a=1)),
]
DIFFERENT = [
    ([1], [True]), ({"f": True}, {"f": 1.0}), ((1,), [1]), ({1}, {True}), ({1: 0}, {True: 0}),
    ("1", b"1"), (1, 1.0), ([1, 2], [1]), ({"a": 1}, {"a": 1, "b": 2}), (NAN, 1.0), (0.0, -1.0),
    (OrderedDict(a=1), {"a": 1}), (frozenset({1}), {1}),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal(one: Any, other: Any) -> None:
    assert sides.equal(Outcome(one, None), Outcome(other, None))


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different(one: Any, other: Any) -> None:
    assert not sides.equal(Outcome(one, None), Outcome(other, None))
    assert not sides.equal(Outcome(other, None), Outcome(one, None))


def test_arrays_and_what_is_nested_deep() -> None:
    numpy = pytest.importorskip("numpy")
    assert sides.equal(Outcome(numpy.arange(5), None), Outcome(numpy.arange(5), None))
    assert not sides.equal(Outcome(numpy.arange(5), None), Outcome(numpy.arange(6), None))
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert sides.equal(Outcome(deep, None), Outcome(deep, None)) in (True, False)  # and no error


class LikeDjango:
    """Its methods' arguments."""

    version = 1

    def make_key(self, key: Any, version: Any = None) -> str: ...
    def get(self, key: Any, default: Any = None, version: Any = None) -> Any: ...
    def set(self, key: Any, value: Any, timeout: Any = 0, version: Any = None) -> Any: ...
    def get_many(self, keys: Any, version: Any = None) -> Any: ...
    def set_many(self, data: Any, timeout: Any = 0, version: Any = None) -> Any: ...
    def delete_many(self, keys: Any, version: Any = None) -> Any: ...
    def incr_version(self, key: Any, delta: int = 1, version: Any = None) -> Any: ...
    def clear(self) -> Any: ...


class LikeRedisPy:
    def get(self, name: Any) -> Any: ...
    def set(self, name: Any, value: Any, ex: Any = None) -> Any: ...
    def mget(self, keys: Any, *args: Any) -> Any: ...
    def mset(self, mapping: Any) -> Any: ...
    def delete(self, *names: Any) -> Any: ...
    def exists(self, *names: Any) -> Any: ...


def one(*keys: Any, version: int | None = None) -> list[Place]:
    return [Place(key, None if version is None else str(version)) for key in keys]


@pytest.mark.parametrize(("side", "name", "given", "named", "places"), [
    ({}, "__setitem__", ("a", 1), {}, one("a")),
    ({}, "pop", ("a", None), {}, one("a")),
    ({}, "update", ({"a": 1, "b": 2},), {"keys": 3}, one("a", "b", "keys")),
    ({}, "update", ([("a", 1), "bx"],), {}, one("a", "b")),
    ({}, "update", (MappingProxyType({"a": 1}),), {}, one("a")),
    ({}, "update", (), {"data": 1}, one("data")),
    ({}, "clear", (), {}, []),
    ({}, "__getitem__", ([],), {}, None),
    (LikeDjango(), "get", ("a",), {}, one("a", version=1)),
    (LikeDjango(), "set", ("a", 1, None, 2), {}, one("a", version=2)),
    (LikeDjango(), "set", (), {"key": "a", "value": 1, "version": 3}, one("a", version=3)),
    (LikeDjango(), "get_many", (["a", "b"], 2), {}, one("a", "b", version=2)),
    (LikeDjango(), "delete_many", (), {"keys": ("a",)}, one("a", version=1)),
    (LikeDjango(), "set_many", (), {"data": {"a": 1}, "version": 2}, one("a", version=2)),
    (LikeDjango(), "incr_version", ("a",), {}, one("a", version=1) + one("a", version=2)),
    (LikeDjango(), "incr_version", ("a", 3), {"version": 2},
     one("a", version=2) + one("a", version=5)),
    (LikeRedisPy(), "set", (), {"name": "a", "value": 1}, one("a")),
    (LikeRedisPy(), "mget", ("a", "b"), {}, one("a", "b")),
    (LikeRedisPy(), "mget", (["a", "b"], "c"), {}, one("a", "b", "c")),
    (LikeRedisPy(), "mget", ("abc",), {}, one("abc")),
    (LikeRedisPy(), "mset", (), {"mapping": {"a": 1}}, one("a")),
    (LikeRedisPy(), "delete", ("a", "b"), {}, one("a", "b")),
    (LikeRedisPy(), "exists", (b"a", 1, 2.5, b"\xff"), {}, one("a", "1", "2.5", b"\xff")),
    ({}, "get", (b"a",), {}, one(b"a")),
    (LikeDjango(), "get", (7,), {"version": []}, one("7", version=[])),  # type: ignore[arg-type]
    (LikeDjango(), "get", (b"x",), {}, one("b'x'", version=1)),  # as its make_key has it
    (LikeDjango(), "get", ((1, 2),), {}, one("(1, 2)", version=1)),
    (LikeRedisPy(), "delete", (), {}, None),
    (LikeDiskcache, "expire", (), {}, None),
    (LikeRedisPy(), "get", (), {}, None),
])
def test_what_it_is_about(side: Any, name: str, given: Any, named: Any, places: Any) -> None:
    assert Operation(side, name).places(given, named) == places


def test_keys_can_be_gone_through_twice_and_values_are_left_as_they_are() -> None:
    many = Operation(LikeDjango(), "get_many")
    given, named = many.lasting((iter("ab"),), {})
    assert list(given[0]) == list(given[0]) == ["a", "b"]
    given, named = many.lasting((), {"keys": iter("ab")})
    assert list(named["keys"]) == list(named["keys"]) == ["a", "b"]
    value = iter([1])
    assert Operation({}, "__setitem__").lasting(("a", value), {})[0][1] is value
    assert Operation({}, "update").lasting((), {"keys": value})[1]["keys"] is value


@pytest.mark.parametrize(("name", "answer", "keys", "misses"), [
    ("get", None, "a", True), ("get", 0, "a", False), ("__contains__", False, "a", True),
    ("get_many", {"a": 1}, "ab", True), ("get_many", {"a": 1, "b": 2}, "ab", False),
    ("get_many", {"a": 1}, "aa", False), ("mget", [1, None], "ab", True),
    ("mget", [1, 2], "ab", False), ("exists", 1, "ab", True), ("exists", 2, "ab", False),
    ("exists", True, "a", False), ("get_dict", {"a": None}, "a", True),
])
def test_misses(name: str, answer: Any, keys: str, misses: bool) -> None:
    assert Operation({}, name).misses(answer, one(*keys), (), {}) is misses


def test_what_a_new_side_misses_of_many_is_read_from_the_old_one(make: Any) -> None:
    m = make()
    mirror = Mirror(LikeRedis(m, "old"), LikeRedis(m, "new"), m, sample=0.0, read_from="new")
    mirror.old.set("only", 1)
    mirror.set("both", 1)
    assert mirror.exists("only", "both") == 2 and mirror.mget("only", "both") == [b"1", b"1"]


def test_versions_are_entries_of_their_own(make: Any) -> None:
    conf = pytest.importorskip("django.conf")
    if not conf.settings.configured:
        conf.settings.configure()
    from django.core.cache.backends.locmem import LocMemCache

    m = make()
    new = LocMemCache("new", {})
    mirror = Mirror(LocMemCache("old", {}), new, m, sample=0.0, read_from="new")
    for version in (1, 2):
        mirror.set("a", version, version=version)
    new.set("a", 7, version=2)
    assert mirror.compare(["a"]) == 0
    mirror._sample = 1.0
    assert mirror.get("a", version=2) == 7  # as the new side has it, until that is compared
    assert mirror.flush() and mirror.report().differences == 1
    assert mirror.get("a", version=2) == 2 and mirror.get("a") == 1


def test_what_is_copied_does_not_outlive_what_it_is_a_copy_of(make: Any) -> None:
    diskcache = pytest.importorskip("diskcache")
    m = make()
    with tempfile.TemporaryDirectory() as folder, diskcache.Cache(folder) as old:
        mirror = Mirror(old, LikeDiskcache(m, "new"), m, sample=0.0, read_from="new")
        old.set("session", 1, expire=100)
        old.set("short", 1, expire=0.9)
        old.set("forever", 1)
        assert mirror.compare(["session", "short", "forever"]) == 3
        assert 98 <= m.ttl(("new", "session")) <= 100 and m.ttl(("new", "forever")) is None
        assert ("new", "short") not in m
    old_map = {"a": 1}
    mirror = Mirror(old_map, m, m, sample=0.0)
    assert mirror.compare(["a"]) == 1 and m["a"] == 1 and m.ttl("a") is None
    of_redis = LikeRedis(m, "redis")
    of_redis.set("a", 1, ex=50)
    mirror = Mirror(of_redis, LikeRedis(m, "copy"), m, sample=0.0)
    assert mirror.compare(["a"]) == 1 and 48 <= m.ttl(("copy", "a")) <= 50


def test_an_old_side_that_does_not_say_when_it_ends(make: Any) -> None:
    cachelib = pytest.importorskip("cachelib")
    from shmmap.contrib.cachelib import ShmMapCache

    m = make()
    mirror = Mirror(cachelib.SimpleCache(), ShmMapCache(m, key_prefix="new"), m, read_from="new")
    mirror.old.set("a", 1, timeout=60)
    mirror.new.set("a", 2)
    began = time.monotonic()
    assert mirror.compare(["a"]) == 1 and time.monotonic() - began < 5
    assert mirror.new.get("a") is None and mirror.get("a") == 1
