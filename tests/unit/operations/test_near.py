"""The near cache: what it keeps, how much of it, and what it lets go."""

from __future__ import annotations

import gc
import pickle
import weakref
from typing import Any

import numpy as np
import pytest

import shmmap

from ...support.damage import Damage
from .near import BOUNDED, Name, Thing


class Odd(str):
    """A str that says it equals nothing: no key, since a map would find it by its text."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return False


def test_a_hit_gives_the_same_object(make):
    m = make(near=10)
    m.set_many({"list": [1, 2], "array": np.arange(3), "text": "t" * 100})
    for key in ("list", "array", "text"):
        first = m[key]
        assert m[key] is first and m.get(key) is first and m.get_versioned(key)[0] is first
        assert m.get_many([key])[key] is first
    assert make()["list"] is not make()["list"]


def test_near_copy_gives_what_may_be_changed_anew(make):
    m = make(near=10, near_copy=True)
    m.set_many({"list": [1, 2], "array": np.arange(3), "text": "t" * 100})
    m["list"].append(3)
    m["array"][0] = 7
    assert m["list"] == [1, 2] and m["array"][0] == 0
    assert m["text"] is m["text"]
    assert m.stats().near_hits == 3


def test_hits_are_counted(make):
    m = make(near=10)
    m["a"] = 1
    before = m.stats()
    for _ in range(5):
        assert m["a"] == 1
    after = m.stats()
    assert (after.hits - before.hits, after.near_hits - before.near_hits) == (5, 4)
    assert m.get("a", **BOUNDED) == m.get("a", **BOUNDED) == 1
    last = m.stats()
    assert (last.hits - after.hits, last.near_hits - after.near_hits) == (2, 2)
    other = make(near=10, **BOUNDED)
    assert other["a"] == other["a"] == 1
    other.close()
    assert m.stats().near_hits - last.near_hits == 1


def test_keys_that_are_equal_share_an_entry(make):
    m = make(near=10, **BOUNDED)
    for key, others in {
        1: (1.0, True, np.int64(1)), "s": (Name("s"), np.str_("s")),
        (1, ("a", None)): ((True, (Name("a"), None)), (1.0, (np.str_("a"), None))),
        0.5: (np.float64(0.5),), b"b": (np.bytes_(b"b"),),
    }.items():
        m[key] = first = [1]
        first = m[key]
        for number, other in enumerate(others):
            assert m[other] is first and m.get(other) is first
            m[other] = [number]
            assert m[key] == [number]
            first = m[key]
    assert len(m.near) == 5


def test_what_is_no_key_is_refused_as_ever(make):
    m = make(near=10)
    deep: Any = ()
    for _ in range(200):
        deep = (deep,)
    for wrong in ([], {}, object(), float("nan"), ([],), deep, Odd("s")):
        for operation in (m.get, m.__getitem__, m.get_versioned, lambda key: key in m):
            with pytest.raises(TypeError):
                operation(wrong)
    assert len(m.near) == 0


def test_it_holds_at_most_so_many_and_what_is_used_stays(make):
    m = make(near=20)
    m.set_many({i: i for i in range(500)})
    for i in range(500):
        assert m[i] == i
        assert m[7] == 7
        assert len(m.near) <= 20
    before = m.stats().near_hits
    assert m[7] == 7
    assert m.stats().near_hits == before + 1


def test_it_holds_no_more_where_all_is_used(make):
    m = make(near=20)
    m.set_many({i: i for i in range(100)})
    for i in range(100):
        before = m.stats().near_hits
        assert m[i] == m[i] == i
        assert m.stats().near_hits == before + 1
        assert len(m.near) == min(i + 1, 20)


def test_one_entry_is_enough(make):
    m = make(near=1)
    m.set_many({1: [1], 2: [2]})
    for key in (1, 2, 1, 1, 2):
        assert m[key] == [key] and len(m.near) == 1


def test_a_sweep_prunes(make, freeze):
    m, other = make(near=100), make()
    clock = freeze(m)
    m.set_many({i: Thing(i) for i in range(10)}, ttl=5)
    m.set_many({i: Thing(i) for i in range(10, 20)})
    m["stays"] = 1
    watched = [weakref.ref(m[i]) for i in range(20)]
    assert m["stays"] == 1 and len(m.near) == 21
    clock.advance(6)
    other.delete_many(range(10, 20))
    assert m["stays"] == 1 and len(m.near) == 21
    other.sweep()
    assert m.get("anything") is None  # the next miss
    assert len(m.near) == 1
    gc.collect()
    assert not any(reference() for reference in watched)


def test_close_lets_everything_go(make):
    m = make(near=10)
    m["k"] = Thing(1)
    watched = weakref.ref(m["k"])
    m.close()
    gc.collect()
    assert watched() is None
    for how in ({}, BOUNDED):
        with pytest.raises(shmmap.MapClosed):
            m.get("k", **how)


def test_an_unlinked_map_answers_no_more(make):
    m = make(near=10)
    m["k"] = 1
    assert m["k"] == 1
    m.unlink()
    for how in ({}, BOUNDED, {"consistency": "session"}):
        with pytest.raises(shmmap.MapUnlinked):
            m.get("k", **how)


def test_a_pickled_handle_keeps_it(make):
    m = make(near=10, near_copy=True, consistency="bounded", max_staleness=7.5)
    with pickle.loads(pickle.dumps(m)) as other:
        assert (other.near.size, other.near.copies, other.near.bound_ns) == (10, True, 7.5e9)
    plain = make()
    with pickle.loads(pickle.dumps(plain)) as other:
        assert other.near is None


def test_a_value_that_cannot_be_decoded_is_not_kept(make):
    m = make(shards=1, near=10, **BOUNDED)
    m["k"] = Thing(1)
    assert m["k"].number == 1
    other = make()
    other["k"] = Thing(2)
    damage = Damage(m)
    at = damage.slot_word(damage.head(b"k"), 16 + 8) * 8
    damage.octets[at] ^= 1
    with pytest.raises(shmmap.MapCorrupted):
        m.get("k", consistency="linearizable")
    with pytest.raises(shmmap.MapCorrupted):
        m["k"]
    m["k"] = 3
    assert m["k"] == 3


def test_hits_keep_an_entry_from_eviction(make):
    m = make(size=177_152, shards=1, on_full="evict", near=10)
    other = make()
    m["hot"] = 1
    for i in range(5000):
        assert m.get("hot") == 1, i
        other[i] = i
    assert m.stats().evicted > 1000


@pytest.mark.parametrize(("wrong", "error", "says"), [
    ({"near": -1}, ValueError, "near=-1"), ({"near": True}, TypeError, "near"),
    ({"near": 1.5}, TypeError, "near"), ({"near_copy": 1}, TypeError, "near_copy"),
    ({"consistency": "eventual"}, ValueError, "'linearizable', 'session', 'bounded'"),
    ({"consistency": 1}, TypeError, "consistency"),
    ({"consistency": "bounded", "max_staleness": 1}, ValueError, "near=N"),
    ({"near": 1, "consistency": "bounded"}, ValueError, "max_staleness="),
    ({"near": 1, "max_staleness": 1}, ValueError, 'consistency="bounded"'),
    ({"near": 1, "consistency": "session", "max_staleness": 1}, ValueError, "bounded"),
    ({"near": 1, "consistency": "bounded", "max_staleness": -1}, ValueError, "max_staleness=-1"),
    ({"near": 1, "consistency": "bounded", "max_staleness": float("nan")}, ValueError, "nan"),
    ({"near": 1, "consistency": "bounded", "max_staleness": "1"}, TypeError, "seconds"),
    ({"near": 1, "consistency": "bounded", "max_staleness": True}, TypeError, "seconds"),
])
def test_what_cannot_be_is_refused(make, name, wrong, error, says):
    with pytest.raises(error, match=says):
        shmmap.ShmMap(name, "1MB", **wrong)
    m = make(near=wrong.pop("near", 0)) if type(wrong.get("near", 0)) is int and (
        wrong.get("near", 0) >= 0) else None
    if m is not None and "near_copy" not in wrong:
        with pytest.raises(error, match=says):
            m.get("k", **wrong)
