"""Tombstones: a removal leaves its time in the store, and everybody takes it for nothing."""

from __future__ import annotations

import time
from typing import Any

import pytest

from shmmap import ShmMap
from shmmap.testing import LocalStore

from .conftest import listens, until

NAME = b"shmmap:a"


def bytes_in(store: Any, name: bytes = NAME) -> bytes | None:
    """Return what a store has."""
    if isinstance(store, LocalStore):
        return store.kept.get(name, (None,))[0]
    return store.get(name)  # type: ignore[no-any-return]


def put_bytes(store: Any, data: bytes, name: bytes = NAME) -> None:
    """Have a store hold this, whoever wrote it."""
    if isinstance(store, LocalStore):
        store._put(name, data, None)
    else:
        store.set(name, data)


def life_in(store: Any, name: bytes = NAME) -> float:
    """Return the seconds that a store keeps a name; -1: for ever."""
    if isinstance(store, LocalStore):
        until_s = store.kept[name][1]
        return -1 if until_s is None else until_s - time.monotonic()
    return store.pttl(name) / 1e3  # type: ignore[no-any-return]


def is_buried(store: Any, name: bytes = NAME) -> bool:
    data = bytes_in(store, name)
    return data is not None and len(data) == 15 and data[14] == 254


REMOVALS: dict[str, Any] = {
    "delete": lambda tier: tier.delete("a"),
    "many": lambda tier: tier.delete_many(["a", "no"]),
    "pop": lambda tier: tier.pop("a"),
    "del": lambda tier: tier.__delitem__("a"),
    "expired at once": lambda tier: tier.set("a", 1, ttl=0),
    "cas": lambda tier: tier.cas("a", 1, tier.get_versioned("a")[1], ttl=0),
    "replace": lambda tier: tier.replace("a", 1, ttl=0),
    "touch": lambda tier: tier.touch("a", 0),
}


def test_every_removal_leaves_one(tiers, store):
    tier = tiers(store, tombstones=500)
    for what, remove in REMOVALS.items():
        tier["a"] = 1
        assert not is_buried(store)
        remove(tier)
        assert is_buried(store) and 490 < life_in(store) <= 500, what
        assert "a" not in tier and tier.get("a", 5) == 5 and tier.get_many(["a"]) == {}


def test_it_is_nothing_to_everybody(tiers, store):
    """Also to a tier that leaves none."""
    tiers(store, tombstones=500).delete("a")
    tier = tiers(store, consistency="linearizable")
    before = bytes_in(store)
    assert "a" not in tier and tier.get("a", 5) == 5 and tier.get_many(["a", "b"], 7) == {
        "a": 7, "b": 7}
    assert tier.get_versioned("a", 3) == (3, 0)
    assert not tier.replace("a", 1) and not tier.touch("a", 70) and not tier.touch("a", None)
    assert tier.pop("a", 9) == 9 and not tier.cas("a", 1, 55)
    for function in (tier.ttl, tier.pop, lambda key: tier[key], lambda key: tier.apply(key, repr)):
        with pytest.raises(KeyError):
            function("a")
    assert bytes_in(store) == before and 490 < life_in(store) <= 500  # nobody has touched it


WRITES: dict[str, Any] = {
    "set": lambda tier: tier.set("a", 1),
    "many": lambda tier: tier.set_many({"a": 1}),
    "add": lambda tier: tier.add("a", 1) and not tier.add("a", 2),
    "cas": lambda tier: tier.cas("a", 1, 0) and not tier.cas("a", 2, 0),
    "incr": lambda tier: tier.incr("a") == 1,
    "apply": lambda tier: tier.apply("a", lambda value: value + 1, 0) == 1,
    "get_or_set": lambda tier: tier.get_or_set("a", lambda: 1) == 1,
}


def test_what_is_written_over_it(tiers, store):
    removing = tiers(store, tombstones=500)
    for tier in (removing, tiers(store)):
        for what, write in WRITES.items():
            removing.delete("a")
            assert write(tier) in (None, True), what
            assert tier.get("a", consistency="linearizable") == 1 and life_in(store) < 0, what
            assert tier.replace("a", 2, ttl=60) and tier.touch("a", 30)
            assert 29 < tier.ttl("a") <= 30


def test_only_values_count(tiers, store):
    tier = tiers(store, tombstones=500)
    tier.set_many({number: number for number in range(2_300)})
    assert tier.delete_many(range(2_200)) == 2_200
    assert tier.delete_many([*range(2_300), 2_299, "none"]) == 100
    assert not tier.delete(7) and tier.delete_many(range(10)) == 0
    with pytest.raises(KeyError):
        del tier[7]
    assert tier.get_many(range(2_300)) == {}


def test_a_copy_of_it_is_one_of_nothing(tiers, store):
    """The machine remembers that there is nothing, and hears of what comes."""
    one, other = (listens(tiers(store, max_staleness=60, tombstones=500)) for _ in range(2))
    one["a"] = 1
    assert other["a"] == 1
    assert one.delete("a")
    until(lambda: "a" not in other)
    until(lambda: other.get("a") is None and other.map.get("a") is not None)
    asked = other.report().asked
    assert "a" not in other and other.report().asked == asked
    one["a"] = 2
    until(lambda: other.get("a") == 2)


def test_it_goes_by_itself(tiers, store):
    tier = tiers(store, tombstones=0.05)
    tier["a"] = 1
    del tier["a"]
    until(lambda: bytes_in(store) is None or life_in(store) <= 0)
    assert tier.add("a", 2) and tier["a"] == 2


def test_what_follows_a_removal_is_later_than_it(tiers, store):
    one = tiers(store, tombstones=500)
    one._writing._stamps._now = lambda: time.time_ns() + 20_000_000_000  # its clock is ahead
    one.delete("a")
    removed = bytes_in(store)
    other = tiers(store)
    assert other.get("a") is None
    other["a"] = 1
    written = bytes_in(store)
    assert removed and written and written[2:14] > removed[2:14]


def test_a_removal_behind(tiers, store, name):
    with ShmMap(f"{name}-j", size="1MB", ephemeral=True) as journal:
        tier = tiers(store, write="behind", journal=journal, tombstones=500)
        tier["a"] = 1
        tier.flush(20)
        assert tier.delete("a") and "a" not in tier
        tier.flush(20)
        assert is_buried(store) and "a" not in tier
        tier["a"] = 2
        tier.flush(20)
        assert tier["a"] == 2 and not is_buried(store)
        tier.close()


def test_locks_are_none_of_its_business(tiers, store):
    tier = tiers(store, tombstones=500)
    with tier.lock("a"):
        tier.delete("a")
        assert tier.add("a", 1)
    with tier.lock("a"):
        pass
    assert tier["a"] == 1


def test_foreign_bytes_are_not_written_over(tiers, store):
    tier = tiers(store, tombstones=500)
    for data in (b"", b"x", b"ab", b"\xd5\x01" + bytes(13), bytes(15), b"\xd5\x01" + b"\xfe" * 14):
        put_bytes(store, data)
        assert not tier.add("a", 1) and not tier.cas("a", 1, 0) and bytes_in(store) == data
        assert tier.touch("a", 50) and tier.delete("a") and is_buried(store)


@pytest.mark.parametrize("wrong", [0, -1, float("inf"), float("nan")])
def test_how_long_it_may_be_kept(tiers, wrong):
    with pytest.raises(ValueError, match="tombstones="):
        tiers(LocalStore(), tombstones=wrong)


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_a_codec_without_stamps_has_none(tiers, codec):
    if codec == "msgpack":
        pytest.importorskip("msgpack")
    with pytest.raises(ValueError, match=f"tombstones= needs codec=.*{codec}"):
        tiers(LocalStore(), codec=codec, tombstones=5)
