"""Old sides that people have, each mirrored to a map: the same calls come to the same on both."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy
import pytest

import shmmap
from shmmap import Mirror
from shmmap.contrib.alike import LikeDiskcache, LikeRedis

from ..support.redis_server import RedisServer


@pytest.fixture
def m() -> Iterator[shmmap.ShmMap]:
    m = shmmap.ShmMap(f"alike-{os.getpid()}", size="2MB", sweep_interval=None,
                      on_full="evict")
    yield m
    m.close()
    shmmap.unlink(m.name, missing_ok=True)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """redis-py's client of a server on a unix socket."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    try:
        found = server.client()
        yield found
        found.close()
    finally:
        server.kill()


def same(old: Any, new: Any, name: str, *given: Any, **named: Any) -> None:
    """Call both; the results are the same, or both refuse it."""
    def call(side: Any) -> Any:
        try:
            return getattr(side, name)(*given, **named)
        except Exception as error:
            assert isinstance(error, (KeyError, TypeError, ValueError, OverflowError)) or (
                side is old and type(error).__name__ in ("DataError", "ResponseError")), error
            return KeyError if isinstance(error, KeyError) else "refused"

    first, second = call(old), call(new)
    assert first == second and type(first) is type(second), (name, given, first, second)


def test_redis(client: Any, m: shmmap.ShmMap) -> None:
    client.flushdb()
    ours = LikeRedis(m, "r")
    chance = random.Random(5)
    keys = ["a", "b", b"c", "n", 1, "1", b"1", 2.5, "2.5", b"\xff", "\xff"]
    for _ in range(1500):
        key, other = chance.choice(keys), chance.choice(keys)
        value = chance.choice(["text", b"\x00bytes", 7, -3, 2.5, "12", "007", "", bytearray(b"5")])
        name, given, named = chance.choice([
            ("get", (key,), {}), ("mget", ([key, other],), {}), ("exists", (key, other), {}),
            ("set", (key, value), {}), ("set", (key, value), {"ex": 100}),
            ("set", (key, value), {"px": 90_000}), ("set", (key, value), {"nx": True}),
            ("set", (key, value), {"xx": True}), ("set", (key, value), {"keepttl": True}),
            ("mset", ({"a": value, 1: "x"},), {}), ("mget", (key, other), {}),
            ("delete", (key, other), {}), ("expire", (key, 70), {}), ("ttl", (key,), {}),
            ("incr", ("counter",), {}), ("decrby", ("counter", 3), {}), ("setnx", (key, 1), {}),
            ("incr", (key,), {}),
        ])
        same(client, ours, name, *given, **named)
    same(client, ours, "flushdb")
    assert ours.get("a") is None and len(m) == 0


ODD = (
    None, True, (1,), [1], {}, object(), 1, 1.0, 1e16, 1e22, -0.0, float("nan"), float("inf"),
    10**20, "1", b"1", bytearray(b"1"), memoryview(b"1"), "", b"", b"\xff", "\xff", "\ud800",
    Fraction(1), numpy.int64(1),  # no subclasses of int: redis-py with hiredis refuses these
)


@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")
@pytest.mark.parametrize("decodes", [False, True])
def test_redis_of_odd_keys_and_values(client: Any, m: shmmap.ShmMap, decodes: bool) -> None:
    """What each kind of key, value, amount and time comes to, with both."""
    client.flushdb()
    ours = LikeRedis(m, "r", decode_responses=decodes)
    path = client.connection_pool.connection_kwargs["path"]
    old = type(client)(unix_socket_path=path, decode_responses=decodes)
    whole = (*ODD, 0, -1, 7, 2**62, 2**63 - 1, -(2**63), 2**63, "7", "-7", "+7", " 7", "07", "-0")
    for odd in whole:
        same(old, ours, "set", odd, "kept")
        for name in ("get", "mget", "exists", "ttl", "incr", "delete"):
            same(old, ours, name, odd)
        same(old, ours, "set", "value", odd)
        same(old, ours, "get", "value")
        same(old, ours, "incr", "value")
        same(old, ours, "mset", {"first": 1, "value": odd, odd if odd in (1, "1") else "k": 2})
        same(old, ours, "mget", ["first", "value", "k", 1])
        same(old, ours, "delete", "first", "value")
        for start in (5, -5, "text", 2.5, 2**63 - 1):
            for name in ("incrby", "decrby"):
                same(old, ours, "set", "n", start)
                same(old, ours, name, "n", odd)
                same(old, ours, "get", "n")
    fits = [odd for odd in whole if not isinstance(odd, int) or abs(odd) < 10**8]  # seconds
    for odd in (*fits, timedelta(seconds=90.9), timedelta(seconds=0.5), timedelta()):
        for name, given, named in (
            ("set", ("t", 1), {"ex": odd}), ("setex", ("t", odd, 1), {}),
            ("expire", ("t", odd), {}),
        ):
            same(old, ours, name, *given, **named)
            same(old, ours, "ttl", "t")
            same(old, ours, "set", "t", 1)
        same(old, ours, "set", "p", 1, px=odd)
    for both in ({"ex": 1, "px": 1}, {"nx": True, "xx": True}, {"ex": 1, "keepttl": True}):
        same(old, ours, "set", "t", 1, **both)
    old.close()


def test_diskcache(tmp_path: Path, m: shmmap.ShmMap) -> None:
    diskcache = pytest.importorskip("diskcache")
    old, ours = diskcache.Cache(str(tmp_path)), LikeDiskcache(m, "d")
    chance = random.Random(6)
    for _ in range(300):
        key, value = chance.choice(["a", 1, b"c"]), chance.choice(["text", 7, [1, {"x": 2}], None])
        name, given, named = chance.choice([
            ("get", (key, "none"), {}), ("set", (key, value), {}),
            ("set", (key, value), {"expire": 100}), ("add", (key, value), {"expire": 100}),
            ("pop", (key, "none"), {}), ("delete", (key,), {}), ("touch", (key,), {"expire": 50}),
            ("__getitem__", (key,), {}), ("__contains__", (key,), {}), ("__len__", (), {}),
            ("incr", ("n",), {}), ("decr", ("n", 2), {}), ("incr", ("none",), {"default": None}),
        ])
        same(old, ours, name, *given, **named)
    same(old, ours, "clear")
    old.close()


def test_a_mirror_over_redis_that_loses_its_new_side(client: Any, m: shmmap.ShmMap) -> None:
    """The map is damaged, then its handle is closed: who asks for the cache notices nothing."""
    client.flushdb()
    gates = shmmap.ShmMap(f"{m.name}-gates", size="300KB", sweep_interval=None)
    try:
        mirror = Mirror(client, LikeRedis(m), gates, sample=1.0, deadline=1.0)
        for number in range(50):
            assert mirror.set(f"k{number}", number, ex=600)
        assert mirror.get("k7") == b"7" and mirror.incr("k7") == 8 and mirror.delete("k0") == 1
        assert mirror.flush() and mirror.report().differences == mirror.report().failed == 0
        assert 590 < m.ttl("k8") <= 600
        gates.gates["mirror"] = True
        assert mirror.get("k7") == b"8" and mirror.get("k0") is None
        for mapping in m.attachment.mappings:  # damage: the second half of each shard
            memory = memoryview(mapping.buffer).cast("B")
            memory[len(memory) // 2 :] = b"\xff" * (len(memory) - len(memory) // 2)
            memory.release()
        assert mirror.get("k7") == b"8" and mirror.set("k9", 9) and mirror.get("k9") == b"9"
        m.close()
        assert mirror.get("k7") == b"8" and mirror.set("k7", "x") and mirror.get("k7") == b"x"
        assert mirror.report().failed > 0
    finally:
        gates.unlink()
        gates.close()


def test_djangos_caches(m: shmmap.ShmMap, client: Any) -> None:
    django = pytest.importorskip("django")
    from django.conf import settings

    if not settings.configured:
        settings.configure()
    django.setup()
    from django.core.cache.backends.locmem import LocMemCache
    from django.core.cache.backends.redis import RedisCache

    from shmmap.contrib.django import ShmMapCache

    path = client.connection_pool.connection_kwargs["path"]
    for old in (LocMemCache("mirror", {}), RedisCache(f"unix://{path}", {})):
        old.clear()
        new = ShmMapCache(m.name, {"KEY_PREFIX": type(old).__name__})
        mirror = Mirror(old, new, m, name=type(old).__name__, sample=1.0)
        mirror.set("a", [1], 60)
        assert mirror.add("a", 2) is False and mirror.get("a") == [1]
        mirror.set("n", 1)
        assert mirror.incr("n") == 2 and mirror.has_key("n")
        assert mirror.get_many(["a", "none"]) == {"a": [1]}
        with pytest.raises(ValueError, match="not found"):
            mirror.incr("none")
        mirror.set_many({"x": 1, "y": 2})
        mirror.delete_many(["x"])
        assert new.get("y") == 2 and new.get("x") is None and mirror.delete("y")
        assert mirror.flush()
        found = mirror.report()
        assert found.differences == found.failed == 0 and found.compared >= 4
