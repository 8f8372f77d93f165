"""Tiered: the interface of a map over a store, on two machines."""

from __future__ import annotations

import json
import pickle
import signal
from typing import Any

import pytest

import shmmap
from shmmap import (
    MapClosed,
    StoreRefused,
    Tiered,
    ValueUnreadable,
)
from shmmap.testing import LocalStore
from shmmap.values._keys_cy import pack as pack_key

from .conftest import copied, listens, until


class Reversed:
    """A codec of one's own: JSON, backwards; what it loads has a class that no map has natively."""

    name = "reversed"

    def dumps(self, value: Any) -> bytes:
        """Return bytes."""
        return json.dumps(value)[::-1].encode()

    def loads(self, data: bytes) -> Any:
        """Return a value."""
        value = json.loads(data.decode()[::-1])
        return Own(value) if isinstance(value, dict) else value


class Own(dict):  # type: ignore[type-arg]
    """No dict of Python's own."""


VALUES = [1, -5, 2**80, 1.5, "text", b"bytes", None, True, (1, [2, {"a": 3}]), {"x": {1, 2}}]


def test_what_one_machine_writes_the_other_reads(tiers, store):
    one, other = tiers(store), tiers(store)
    for number, value in enumerate(VALUES):
        one["key", number] = value
        assert other["key", number] == value and type(other["key", number]) is type(value)
        assert one.get(("key", number)) == value
    assert other.get("none") is None and other.get("none", 5) == 5 and "none" not in other
    with pytest.raises(KeyError):
        other["none"]


def test_a_hit_asks_nobody(tiers, store):
    tier = listens(tiers(store, max_staleness=60))
    copied(tier, "a", "b")
    for _ in range(10):
        assert tier["a"] == "b" and "none" not in tier and tier.get("none") is None
    assert tier.report().asked == 2
    other = tiers(store, tier.map, max_staleness=60)
    assert other["a"] == "b" and other.report().asked == 0  # the whole machine's


def test_a_change_elsewhere_is_heard_of(tiers, store):
    one, other = (listens(tiers(store, max_staleness=60)) for _ in range(2))
    one["a"] = 1
    assert other["a"] == 1
    one["a"] = 2
    until(lambda: other["a"] == 2)
    assert "b" not in other
    one["b"] = 3
    until(lambda: "b" in other)
    del one["a"]
    until(lambda: "a" not in other)
    assert other.report().changes >= 3


def test_own_writes_are_seen_by_the_whole_machine_at_once(tiers, store):
    one = listens(tiers(store, max_staleness=60))
    other = tiers(store, one.map, max_staleness=60)
    for number in range(50):
        assert other.get("a", 0) == number
        one["a"] = number + 1
        assert other["a"] == one["a"] == number + 1
    assert one.delete("a") and not one.delete("a") and "a" not in other


def test_operations(tiers, store):
    one, other = tiers(store, consistency="linearizable"), tiers(store, consistency="linearizable")
    assert one.add("a", 1) and not other.add("a", 2) and other["a"] == 1
    assert other.replace("a", 3) and not other.replace("b", 3) and one["a"] == 3
    assert one.incr("n") == 1 and other.incr("n", 5) == 6 and one.incr("n", 0.5) == 6.5
    assert one.incr("new", 2, 40, ttl=50) == 42 and 40 < other.ttl("new") <= 50
    assert other.incr("new") == 43 and 40 < one.ttl("new") <= 50
    value, version = one.get_versioned("a")
    assert value == 3 and version and other.get_versioned("b") == (None, 0)
    assert other.cas("a", 4, version) and not one.cas("a", 5, version) and one["a"] == 4
    assert one.cas("c", 1, 0) and not other.cas("c", 2, 0)
    assert other.apply("c", lambda value: value + 1) == 2 == one["c"]
    with pytest.raises(KeyError):
        one.apply("d", lambda value: value)
    assert one.pop("c") == 2 and other.pop("c", 9) == 9
    with pytest.raises(KeyError):
        one.pop("c")
    one.set_many({("m", i): i for i in range(2500)}, ttl=100)
    assert other.get_many([("m", i) for i in range(2501)]) == {("m", i): i for i in range(2500)}
    assert other.get_many(["no"], 7) == {"no": 7} and 90 < one.ttl(("m", 7)) <= 100
    assert one.delete_many([("m", i) for i in range(2501)]) == 2500
    with pytest.raises(KeyError):
        one.ttl("no")
    with pytest.raises(KeyError):
        del one["no"]
    with pytest.raises(TypeError, match="holds a dict, which is no number"):
        one["d"] = {}
        one.incr("d")


def test_time_to_live(tiers, store):
    one, other = (listens(tiers(store, max_staleness=60, ttl=30)) for _ in range(2))
    one["a"] = 1
    one.set("b", 1, ttl=None)
    one.set("c", 1, ttl=0.2)
    assert 25 < other.ttl("a") <= 30 and other.ttl("b") is None
    assert (other["c"] == 1 and other.map.get("c") is None) or other.map.ttl("c") <= 0.2
    assert other["a"] == 1 and other.touch("a", 50) and 45 < other.ttl("a") <= 50
    assert not other.touch("none")
    until(lambda: other["a"] == 1 and "a" in other.map and 45 < other.map.ttl("a") <= 50)
    until(lambda: "c" not in other)
    until(lambda: "c" not in one)
    one.set("a", 2, ttl=0)
    assert "a" not in one
    assert not one.add("b", 2, ttl=0) and not one.cas("b", 2, 5, ttl=0) and one["b"] == 1
    assert one.touch("b", 0) and one.add("b", 1, ttl=0) and not one.replace("b", 1, ttl=0)
    assert one.cas("b", 1, 0, ttl=0) and "b" not in one
    one["b"] = 3
    assert one.cas("b", 1, one.get_versioned("b")[1], ttl=0) and "b" not in one
    one["b"] = 3
    assert one.replace("b", 1, ttl=0) and "b" not in one
    one.set_many({"b": 1}, ttl=-1)
    assert "b" not in one


def test_keys_of_every_kind_have_names_of_their_own(tiers, store):
    tier = tiers(store)
    keys = ["a", b"a", 1, 1.5, None, ("a", 1), "\0a", "", "\ud800", b"\0", frozenset({1, 2})]
    for number, key in enumerate(keys):
        tier[key] = number
    assert tier.get_many(keys) == dict(zip(keys, range(len(keys)), strict=True))
    names = tier._names
    assert [names.key_of(names.name_of(key)) for key in keys] == keys
    for key in ("shmmap.tier", ("shmmap.tier", "state")):
        with pytest.raises(ValueError, match="the tier's own"):
            tier[key] = 1
    for name in (b"other", b"shmmap:\0", b"shmmap:\0!lock", b"shmmap:\xff"):
        with pytest.raises(ValueError):
            names.key_of(name)
    with pytest.raises(TypeError):
        tier[[1]] = 2


@pytest.mark.parametrize("codec", ["auto", "safe", "json", "msgpack", Reversed])
def test_with_every_codec_copies_are_kept(tiers, codec):
    store = LocalStore()
    codec = codec() if codec is Reversed else codec
    writer, tier = tiers(store, codec=codec), listens(tiers(store, codec=codec, max_staleness=60))
    values = ["text", 5, 2.5, None, True, [1, {"a": [2]}], {"b": "c" * 1000}]
    for number, value in enumerate(values):
        writer[f"k{number}"] = value
    until(lambda: tier.report().changes == len(values))
    for _ in range(5):
        assert [tier[f"k{number}"] for number in range(len(values))] == values
    assert tier.report().asked == tier.report().kept == len(values)


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_others_read_the_store_s_bytes(tiers, running, codec):
    client = running.client()
    client.flushall()
    tier = tiers(client, codec=codec, prefix="shop:", consistency="linearizable")
    tier["user:7"] = {"name": "Ada"}
    raw = client.get("shop:user:7")
    if codec == "json":
        assert json.loads(raw) == {"name": "Ada"}
    else:
        msgpack = pytest.importorskip("msgpack")
        assert msgpack.unpackb(raw) == {"name": "Ada"}
    assert tier["user:7"] == {"name": "Ada"}
    _, version = tier.get_versioned("user:7")
    assert tier.cas("user:7", [1, 2], version) and tier["user:7"] == [1, 2]
    assert not tier.cas("user:7", 1, version) and tier.incr("n") == 1 and tier.incr("n") == 2
    if codec == "json":
        assert client.get("shop:n") == b"2"
        client.set("shop:other", '{"a": [1]}')
        assert tier["other"] == {"a": [1]}


def test_what_others_wrote_is_named(tiers, running):
    client = running.client()
    client.flushall()
    tier = tiers(client)
    client.set("shmmap:a", "5")
    with pytest.raises(ValueUnreadable, match=r"key 'a': .* no shmmap.Tiered has written"):
        tier["a"]
    client.lpush("shmmap:list", 1)
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        tier["list"]
    tier["a"] = 1
    assert tier["a"] == 1


def test_safe_loads_no_pickle(tiers, running):
    client = running.client()
    client.flushall()
    trusting, safe = tiers(client), tiers(client, codec="safe")
    trusting["a"] = signal.SIGTERM  # an enum's member is pickled
    assert trusting["a"] is signal.SIGTERM
    with pytest.raises(ValueUnreadable):
        safe["a"]
    with pytest.raises(TypeError, match="safe"):
        safe["b"] = object()


def test_everything_flushed(tiers, running):
    client = running.client()
    tier = listens(tiers(client, max_staleness=60))
    tier["a"] = 1
    assert tier["a"] == 1
    client.flushall()
    until(lambda: "a" not in tier)


def test_tiers_of_one_map_never_read_each_other_s_copies(tiers, make, running):
    client = running.client()
    client.flushall()
    m = make(codec="json")
    apart = [tiers(client, m, prefix="a:"), tiers(client, m, prefix="b:"),
             tiers(running.client(db=1), m, prefix="a:"), tiers(LocalStore(), m, prefix="a:")]
    for number, tier in enumerate(apart):
        tier["k"] = number
    for _ in range(3):
        assert [tier["k"] for tier in apart] == [0, 1, 2, 3]
    m.clear()
    assert [tier["k"] for tier in apart] == [0, 1, 2, 3]


def test_nobody_takes_out_what_is_the_tier_s_own(tiers, running):
    client = running.client()
    tier = listens(tiers(client, prefix="h:", codec="json"))
    place = tier._freshness.place
    kind, data = pack_key(place)
    client.set(b"h:\0" + bytes((kind,)) + data, "1")
    client.set(b"h:\0" + bytes((1,)) + b"plain", "1")  # no key is called so
    tier["a"] = 1
    until(lambda: tier.report().changes)
    assert tier.map.get(place) is not None and tier.report().trouble == ""
    for name in (b"h:\0" + bytes((kind,)) + data, b"h:\0\1plain", b"h:\0", b"h:\0\xffa"):
        with pytest.raises(ValueError):
            tier._names.key_of(name)


def test_a_tier_that_is_closed(tiers, store):
    tier = listens(tiers(store, max_staleness=60))
    copied(tier, "a", 1)
    tier.close()
    for act in (lambda: tier["a"], lambda: tier.set("a", 2), lambda: tier.get_many(["a"]),
                lambda: tier.lock("a").acquire(), lambda: tier.get_or_set("a", int)):
        with pytest.raises(MapClosed, match="this tier is closed"):
            act()
    tier.close()


@pytest.mark.parametrize("wrong", [
    {"consistency": "strong"}, {"max_staleness": -1},
    {"consistency": "session", "max_staleness": 1}, {"stale_if_error": -1},
    {"max_staleness": float("nan")}, {"prefix": ""}, {"prefix": "\ud800"}, {"ttl": float("nan")},
])
def test_wrong_options(make, wrong):
    with pytest.raises(ValueError):
        Tiered(make(), LocalStore(), **wrong)


def test_wrong_types(make):
    m = make()
    for args, kwargs in [
        (("name", LocalStore()), {}), ((m, 5), {}), ((m, LocalStore()), {"prefix": b"a"}),
        ((m, LocalStore()), {"ttl": "1"}),
    ]:
        with pytest.raises(TypeError):
            Tiered(*args, **kwargs)
    bounded = shmmap.ShmMap(m.name, near=5, consistency="bounded", max_staleness=5)
    with pytest.raises(ValueError, match="linearizable"):
        Tiered(bounded, LocalStore())
    bounded.close()


def test_what_a_store_has_not_is_refused_by_name(tiers):
    tier = tiers(LocalStore())
    for name, words in [("items", "all keys"), ("clear", "tier.map.clear"), ("snapshot", "instant"),
                        ("edit", "tier.apply"), ("nonsense", "no attribute")]:
        with pytest.raises(AttributeError, match=words):
            getattr(tier, name)
    for act in (iter, len, pickle.dumps):
        with pytest.raises(TypeError):
            act(tier)
    assert tier and "store local" in repr(tier)
    with pytest.raises(TypeError, match="is one key"):
        tier.get_many("abc")


def test_a_full_map_is_in_nobody_s_way(tiers, make):
    m = make(size="200KB", value_size=100)
    tier = listens(tiers(LocalStore(), m, max_staleness=60))
    for number in range(3000):
        tier[number] = "x" * 50
        assert tier[number] == "x" * 50
    tier["large"] = "x" * 10**6
    assert len(tier["large"]) == 10**6


def test_a_copy_that_cannot_be_taken_out_is_old_from_then_on(tiers, make, monkeypatch):
    m = make()
    tier = listens(tiers(LocalStore(), m, max_staleness=60))
    copied(tier, "a", 1)

    def fail(*_: Any) -> None:
        raise shmmap.LockTimeout("a shard's lock")

    with monkeypatch.context() as broken:
        broken.setattr(shmmap.ShmMap, "delete", fail)
        with pytest.raises(shmmap.LockTimeout) as raised:
            tier["a"] = 2
    notes = getattr(raised.value, "__notes__", ["store has the write"])  # Python 3.11
    assert "store has the write" in notes[0]
    assert tier["a"] == 2
    other = tiers(tier.store, m, max_staleness=60)
    assert other["a"] == 2
