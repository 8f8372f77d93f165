"""Many keys in one call: the same as one by one, in their order, whatever comes in between."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import shmmap
from shmmap.errors import EntryTooLarge, MapUnlinked
from shmmap.memory.layout import constants
from shmmap.operations import _batches_cy

K = constants()
GROUP = K["GROUP"]
SIZES = [0, 1, 2, GROUP - 1, GROUP, GROUP + 1, 2 * GROUP, 5 * GROUP + 3]


def test_engine():
    assert _batches_cy.COMPILED is (shmmap.ENGINE == "compiled")


@pytest.mark.parametrize("number", SIZES)
@pytest.mark.parametrize("container", [list, tuple, set, iter, dict.fromkeys])
def test_all_that_is_there_and_nothing_else(make, number, container):
    m = make(shards=4)
    m.set_many((n, str(n)) for n in range(0, number, 2))
    found = m.get_many(container(range(number)))
    assert found == {n: str(n) for n in range(0, number, 2)} and len(m) == len(found)
    if container in (list, tuple):
        assert list(found) == list(range(0, number, 2))


def test_values_of_every_kind_and_length(make):
    m = make(size="4MB", shards=4)
    kinds = [b"x", "é", 5, -(2**70), 1.5, None, True, [1, {"a": ()}], 1j, b"x" * 3000, "y" * 600]
    values = {("k", n): kinds[n % len(kinds)] for n in range(3 * GROUP)}
    m.set_many(values)
    assert m.get_many(list(values)) == values == dict(m.items())
    assert list(map(type, m.get_many(list(values)).values())) == list(map(type, values.values()))


def test_a_default_for_those_that_are_not_there(make):
    m = make()
    m["a"] = None
    assert m.get_many(["a", "b"]) == {"a": None}
    assert m.get_many(["b", "a", "c"], None) == {"b": None, "a": None, "c": None}
    assert m.get_many(range(100), default=0) == dict.fromkeys(range(100), 0)
    m.set("gone", 1, ttl=0)
    assert m.get_many(["gone"], default="d") == {"gone": "d"}
    with make(near=10) as near:
        assert near.get_many(["a", "b"], 7) == {"a": None, "b": 7}


def test_a_key_twice_has_its_last_value(make):
    m = make(shards=2)
    m.set_many([(n % 7, n) for n in range(3 * GROUP)])
    last = 3 * GROUP - 1
    assert m.get_many([0, *range(7), 0]) == {n: last - (last - n) % 7 for n in range(7)}


@pytest.mark.parametrize("at", [0, 1, GROUP - 1, GROUP, GROUP + 5, 3 * GROUP - 1])
@pytest.mark.parametrize("bad", ["key", "value", "too large", "pair"])
def test_an_error_stops_it_and_those_before_have_been_written(make, at, bad):
    m = make(size="300KB", shards=1, codec="safe")
    pairs: list[Any] = [(n, n) for n in range(3 * GROUP)]
    pairs[at] = {"key": ([], 1), "value": (at, 1j), "too large": (at, bytes(10**6)),
                 "pair": (1, 2, 3)}[bad]
    with pytest.raises((TypeError, ValueError, EntryTooLarge)):
        m.set_many(pairs)
    assert set(m) == set(range(at))
    with pytest.raises(TypeError):
        m.get_many([n if n != at else [] for n in range(3 * GROUP)])


def test_pairs_that_come_before_a_broken_one_are_written(make):
    """Of an iterable that raises, too: whoever counts what was handed over is right."""
    m = make()

    def pairs(n: int) -> Any:
        yield from ((i, i) for i in range(n))
        raise KeyError("mine")

    for n in (1, GROUP, GROUP + 3):
        m.clear()
        with pytest.raises(KeyError, match="mine"):
            m.set_many(pairs(n))
        assert sorted(m) == list(range(n))


def test_what_a_generator_yields_is_written_before_it_goes_on(make):
    """It may change what it has yielded, use the map, or end the process."""
    m = make()

    def rows() -> Any:
        row: dict[str, Any] = {}
        for n in range(3 * GROUP):
            row["id"] = n
            yield n, row
            assert m[n] == {"id": n}
            if n % 3 == 0:
                m[n] = "mine"

    for write in (m.set_many, m.update, m.__ior__):
        m.clear()
        write(rows())
        assert dict(m) == {n: {"id": n} if n % 3 else "mine" for n in range(3 * GROUP)}

    def keys() -> Any:
        for n in range(3 * GROUP):
            yield n
            m.delete(n)

    assert len(m.get_many(keys())) == 3 * GROUP and len(m) == 0


class Pair:
    """Is unpacked by code of its own."""

    def __init__(self, m: Any, n: int) -> None:
        self.m, self.n = m, n

    def __iter__(self) -> Any:
        return iter((self.n, len(self.m)))


def test_pairs_that_are_no_tuples_are_written_one_by_one(make):
    m = make()
    m.set_many([(0, 0), (1, 1), [2, 2], (3, 3), Pair(m, 4), (5, 5)])
    assert dict(m) == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 5}


def test_ttls_and_eviction(make):
    m = make(size="300KB", shards=1, on_full="evict")
    m.set_many({n: n for n in range(100)}, ttl=50)
    assert all(0 < m.ttl(n) <= 50 for n in range(100))
    m.set_many({n: n for n in range(10)}, None)
    assert m.ttl(3) is None
    m.set_many({n: n for n in range(10)}, ttl=0)
    assert len(m) == 90
    with pytest.raises(shmmap.MapFull):
        m.set_many(((n, bytes(50)) for n in range(10**5)), evict=False)
    m.set_many((n, bytes(50)) for n in range(10**4))
    assert m.check() == []
    with pytest.raises((TypeError, ValueError)):
        m.set_many({1: 2}, ttl="soon")


def test_keys_whose_iterator_uses_the_map(make):
    m = make()

    def keys() -> Any:
        for n in range(3 * GROUP):
            m[n] = n
            yield n

    assert m.get_many(keys()) == {n: n for n in range(3 * GROUP)}


def test_a_key_that_closes_the_map(make):
    """What a key's own code does comes before the look whether the map is there."""
    m = make()
    m.set_many({n: n for n in range(GROUP)})

    class Closing(str):
        def __hash__(self) -> int:
            m.close()
            return 1

    with pytest.raises((shmmap.MapClosed, TypeError)):
        m.get_many([*range(5), Closing("x"), *range(5)])
    n = make()

    def keys() -> Any:
        yield from range(5)
        n.close()
        yield 5

    with pytest.raises(shmmap.MapClosed):
        n.get_many(keys())


def test_a_map_that_is_unlinked_or_replaced_in_between(make, name):
    m = make()
    m.set_many({n: n for n in range(3 * GROUP)})

    def keys() -> Any:
        for n in range(3 * GROUP):
            if n == GROUP + 2:
                shmmap.unlink(name)
                with shmmap.ShmMap(name, size="300KB", ephemeral=True, shards=2) as other:
                    other.set_many({k: -k for k in range(3 * GROUP)})
                    yield n
            else:
                yield n

    try:
        found = m.get_many(keys())
    except MapUnlinked:
        return
    assert all(abs(value) == key for key, value in found.items())


def test_counts_are_those_of_single_reads_and_writes(make):
    m = make()
    m.set_many({n: n for n in range(50)})
    m.get_many(range(80))
    stats = m.stats()
    assert (stats.writes, stats.hits, stats.misses) == (50, 50, 30)


def test_with_a_near_cache_the_next_read_is_near(make):
    m = make(near=200)
    m.set_many({n: [n] for n in range(100)})
    assert m.get_many(range(100)) == {n: [n] for n in range(100)}
    near = m.stats().near_hits
    assert m.get_many(range(100)) == {n: [n] for n in range(100)}
    assert m.stats().near_hits == near + 100
    m.set_many({n: n for n in range(100)})
    assert m.get_many(range(100)) == {n: n for n in range(100)}


@pytest.mark.parametrize("call", ["update", "set_many"])
@pytest.mark.parametrize(("given", "error", "told"), [
    ("ab", ValueError, "item 1 is 'a', not a"),
    ([("a", 1), ("b", 2, 3)], ValueError, r"item 2 is \('b', 2, 3\), not a"),
    ([["a", 1], 5], TypeError, "item 2 is 5, not a"),
    (["aX", None], TypeError, "item 2 is None, not a"),
])
def test_what_is_no_pair_is_named(make, call, given, error, told):
    m = make()
    with pytest.raises(error, match=told + r" \(key, value\) pair: give a mapping"):
        getattr(m, call)(given)
    assert set(m) <= {"a"}
    with pytest.raises(error):
        {}.update(given)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="no notes")
@pytest.mark.parametrize("container", [dict, list, iter], ids=["dict", "list", "iterator"])
def test_an_error_at_one_of_many_keys_names_it(make, container):
    m = make(codec="safe")
    pairs = [(f"k{i}", i) for i in range(100)]
    pairs[70] = ("bad\n", object())
    with pytest.raises(TypeError, match="would have to be pickled") as caught:
        m.set_many(container(pairs))
    (note,) = caught.value.__notes__
    assert note == rf"map {m.name!r}, key 'bad\n'; the items before are written"
    assert len(m) == 70
