"""A map as a mapping while others change it: copies, updates, views."""

from __future__ import annotations

from collections import ChainMap, Counter, OrderedDict, UserDict, defaultdict
from types import MappingProxyType
from typing import Any

import pytest

import shmmap
from shmmap.operations import copying, views


@pytest.fixture
def other(make: Any) -> Any:
    """Another handle of the map, as another process has it."""
    make(shards=2)
    return make()


@pytest.fixture
def m(make: Any, other: Any) -> Any:
    return make()


def keep(**items: Any) -> dict[str, Any]:
    return items


class RemovesMeanwhile(shmmap.ShmMap):
    """Has the key that is looked up next removed right before, as another process might."""

    other: Any = None

    def meanwhile(self, keys: list[Any]) -> None:
        for key in keys[::2]:
            self.other.delete(key)


@pytest.fixture(autouse=True)
def _meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call `meanwhile` of such a handle with the keys that were just listed."""
    list_raw, list_entries = copying.list_raw, views.list_entries

    def raw(handle: Any, unit: int) -> Any:
        following, listed = list_raw(handle, unit)
        if isinstance(handle, RemovesMeanwhile):
            handle.meanwhile([key for key, _, _ in listed])
        return following, listed

    def entries(handle: Any, unit: int, wants_values: bool, *how: Any) -> Any:
        following, listed = list_entries(handle, unit, wants_values, *how)
        if isinstance(handle, RemovesMeanwhile):
            handle.meanwhile([item[0] if wants_values else item for item in listed])
        return following, listed

    monkeypatch.setattr(copying, "list_raw", raw)
    monkeypatch.setattr(views, "list_entries", entries)


COPIES = {
    "dict": lambda m: dict(m), "**": lambda m: {**m}, "keywords": lambda m: keep(**m),
    "update": lambda m: _updated({}, m), "OrderedDict": lambda m: OrderedDict(m),
    "defaultdict": lambda m: defaultdict(int, m), "items": lambda m: dict(m.items()),
    "|": lambda m: m | {}, "r|": lambda m: {} | m, "dict |=": lambda m: _merged({}, m),
    "Counter": lambda m: Counter(m), "dict of keywords": lambda m: dict(m, more=1),
    "copy": lambda m: m.copy(),
}


def _updated(made: dict[Any, Any], m: Any) -> dict[Any, Any]:
    made.update(m)
    return made


def _merged(made: dict[Any, Any], m: Any) -> dict[Any, Any]:
    made |= m
    return made


class KeysOfItsOwn(RemovesMeanwhile):
    def keys(self, *said: Any) -> Any:
        return super().keys(*said)


class KeysOverThat(KeysOfItsOwn):
    def keys(self, *said: Any) -> Any:
        return super().keys(*said)


@pytest.mark.parametrize("kind", [KeysOfItsOwn, KeysOverThat])
def test_a_subclass_may_have_keys_of_its_own(m, other, kind):
    m.set_many({f"k{i}": i for i in range(40)})
    own = kind(m.name)
    own.other = other
    for copy in (dict, OrderedDict, lambda m: {**m}):
        listed = {f"k{i}": i for i in range(40)}
        m.set_many(listed)
        assert copy(own) == listed and len(m) < 40
    m.set_many(listed)
    with pytest.raises(KeyError):
        for key in own.keys():  # noqa: SIM118
            own[key]
    with pytest.raises(KeyError):
        _looked_up_by_keys(own)
    own.close()


def _looked_up_by_keys(m: Any) -> None:
    def keys() -> None:
        for key in m.keys():  # noqa: SIM118
            m[key]

    m.set_many({f"k{i}": i for i in range(40)})
    [keys() for _ in [1]]


def test_copy_gives_a_plain_dict(m, other):
    m.set_many({f"k{i}": [i] for i in range(40)})
    for mapping in (m, m.snapshot(), MappingProxyType(m)):
        copied = mapping.copy()
        assert type(copied) is dict and copied == m
        copied["k0"].append(1)
        del copied["k1"]
    assert m["k0"] == [0] and "k1" in m


@pytest.mark.parametrize("copy", [*COPIES.values()], ids=[*COPIES])
def test_a_copy_has_what_was_listed_whoever_removes_it_meanwhile(m, other, copy):
    items = {f"k{i}": [i] if i % 3 else i for i in range(40)}
    for _ in range(2):
        m.set_many(items)
        removing = RemovesMeanwhile(m.name)
        removing.other = other
        made = copy(removing)
        made.pop("more", None)
        assert {key: made[key] for key in items} == items and len(made) == 40
        assert 0 < len(m) < 40
        assert type(made) is not shmmap.ShmMap
        # nothing of it is left over
        for key in items.keys() - set(m):
            with pytest.raises(KeyError):
                removing[key]
        assert not removing.__dict__["_copies"]._under_way if "_copies" in vars(removing) else True
        removing.close()


def test_a_loop_gets_no_value_that_is_gone(m, other):
    m.set_many({f"k{i}": i for i in range(20)})
    for key in m.keys():  # noqa: SIM118
        other.delete(key)
        with pytest.raises(KeyError):
            m[key]
    m["a"] = 1
    key = next(iter(m.keys()))
    del other["a"]
    with pytest.raises(KeyError):
        m[key]


def test_a_copy_has_the_newest_value_of_what_is_there(m, other):
    class Overwrites(RemovesMeanwhile):
        def meanwhile(self, keys: list[Any]) -> None:
            self.other.update(dict.fromkeys(keys, "newer"))

    m.set_many(dict.fromkeys(range(20), "older"))
    with Overwrites(m.name) as changing:
        changing.other = other
        assert dict(changing) == dict.fromkeys(range(20), "newer")


def test_a_copy_that_is_broken_off_leaves_nothing(m):
    class Picky(dict[Any, Any]):
        def __setitem__(self, key: Any, value: Any) -> None:
            raise OSError("enough")

    m.set_many({f"k{i}": i for i in range(20)})
    with pytest.raises(TypeError):
        keep(**m, k3=1)  # a keyword twice, at the end of it
    with pytest.raises(TypeError):
        dict([1], **m)
    for read in (lambda: m["k1"], lambda: m["k2"]):
        assert read() in (1, 2)
    assert not m.__dict__["_copies"]._under_way


def test_what_c_code_does_at_once_with_a_keys_view(m):
    m.set_many({f"k{i}": i for i in range(20)})
    assert sorted(m.keys()) == sorted(m) == sorted([*m.keys()])
    assert set(map(m.__getitem__, m.keys())) == set(range(20))
    assert dict(zip(m.keys(), map(m.__getitem__, m), strict=True)) == dict(m)
    chained = ChainMap({}, m)
    assert dict(chained) == dict(m) and UserDict(m) == dict(m)


class HasKeys:
    """The least that `dict.update` takes for a mapping."""

    def keys(self) -> Any:
        return iter(("a", "b"))

    def __getitem__(self, key: str) -> str:
        return key * 2


@pytest.mark.parametrize("source", [
    {"a": "aa", "b": "bb"}, [("a", "aa"), ("b", "bb")], [["a", "aa"], ["b", "bb"]],
    HasKeys(), OrderedDict(a="aa", b="bb"), UserDict(a="aa", b="bb"),
], ids=lambda source: type(source).__name__)  # fmt: skip
def test_update_takes_what_dict_takes(m, source):
    m.update(source, c=3)
    assert m == {"a": "aa", "b": "bb", "c": 3}
    m.clear()
    m.update(self=1, other=2)
    assert m == {"self": 1, "other": 2}
    m.update()
    m |= source
    assert m == {"self": 1, "other": 2, "a": "aa", "b": "bb"}
    m.clear()
    m.set_many(source, ttl=60)
    assert m | HasKeys() == {"a": "aa", "b": "bb"} == HasKeys() | m
    for wrong in (5, None, [5], [(1, 2, 3)]):
        with pytest.raises((TypeError, ValueError)):
            m.update(wrong)


def test_update_from_a_map_that_changes(m, other, make, name):
    m.set_many({f"k{i}": i for i in range(40)})
    removing = RemovesMeanwhile(m.name)
    removing.other = other
    with shmmap.ShmMap(name + "b", size="1MB", ephemeral=True) as target:
        target.update(removing)
        assert target == {f"k{i}": i for i in range(40)}
        m.set_many({f"k{i}": i for i in range(40)})
        target.clear()
        target |= removing
        assert target == {f"k{i}": i for i in range(40)} != m
    removing.close()


@pytest.mark.parametrize("of", [lambda m: m, lambda m: m.snapshot()], ids=["map", "snapshot"])
def test_views_answer_as_those_of_a_dict(m, of):
    plain = {"a": 1, 2: None, ("t", 1): [1]}
    m.update(plain)
    views = of(m)
    for item in (5, (), (1,), ("a",), ("a", 1), ("a", 1.0), ("a", 2), ["a", 1], (2, None), (2, 0),
                 ("a", 1, 1), None, "a1", "ab", ("none", None), (("t", 1), [1]), 1.5):  # fmt: skip
        assert (item in views.items()) == (item in plain.items()), item
    for unhashable in (([], 1), ({}, 1), ((1, []), 1)):
        for one in (views, plain):
            with pytest.raises(TypeError, match="unhashable"):
                unhashable in one.items()  # noqa: B015
            with pytest.raises(TypeError, match="unhashable"):
                unhashable[0] in one.keys()  # noqa: B015, SIM118
    assert (("a", 1) in views.items(prefix="a")) and (2, None) not in views.items(prefix="a")
    assert views.items() == plain.items() and views.keys() == plain.keys()
    assert views.keys() & {"a", "x"} == {"a"} and {"a", "x"} - views.keys() == {"x"}
    assert views.keys() | {"x"} == plain.keys() | {"x"}
    assert views.keys() ^ {"a", "x"} == plain.keys() ^ {"a", "x"}
    assert views.keys().isdisjoint({"x"}) and not views.items().isdisjoint([("a", 1), 5])
    assert views.items(None) == plain.items() and len(views.values(None)) == 3
    assert None in views.values() and [1] in views.values() and 7 not in views.values()
    for view in (views.keys(), views.items(), views.values()):
        assert m.name in repr(view)
    assert m == plain and plain == m and m != {"a": 1}
