"""What every mapping of ours must do as dict does: bound to dict itself, too, as the reference."""

from __future__ import annotations

import enum
import itertools
from collections import namedtuple
from collections.abc import MutableMapping
from typing import Any, ClassVar

import numpy as np
import pytest


class Colour(enum.IntEnum):
    RED = 3


class Word(str):
    pass


Point = namedtuple("Point", "x y")

# Each line: keys that are one key in a dict.
EQUAL_KEYS: list[tuple[Any, ...]] = [
    (1, True, 1.0, np.int64(1), np.uint8(1), np.float32(1), np.bool_(True)),
    (0, False, 0.0, -0.0, np.float64(-0.0), np.int8(0)),
    (3, Colour.RED, 3.0),
    (-1, -1.0, np.int16(-1)),
    (2**31, 2.0**31, np.uint32(2**31)),
    (2**53, 2.0**53),
    (2**63 - 1, np.int64(2**63 - 1)),
    (2**63, 2.0**63, np.uint64(2**63)),
    (-(2**63), -(2.0**63), np.int64(-(2**63))),
    (-(2**63) - 1,),
    (2**64, 2.0**64),
    (-(2**64), -(2.0**64)),
    (int(1e300), 1e300),
    (0.1, np.float64(0.1)),
    (float(np.float32(0.1)), np.float32(0.1)),
    (5e-324,),
    (float("inf"), np.float32("inf")),
    (float("-inf"), np.float64("-inf")),
    ("", np.str_("")),
    ("a", np.str_("a"), Word("a")),
    (b"a", np.bytes_(b"a")),
    ("\ud800",), ("\udc80",), ("a\udcffb",), ("\x00",), (b"\x00",), (b"",), (None,), ("None",),
    ("é",), ("é".encode(),), ("e\u0301",), ("\U0001f600",), ("1",), (b"1",), ("1.0",),
    ((),), ((None,),), (((),),), (("",),), ((b"",),),
    ((1, "x"), (True, "x"), (1.0, "x"), (np.int64(1), Word("x"))),
    ((0.0,), (-0.0,), (0,)),
    ((-(2**63),), (-(2.0**63),)),
    (("a", "b"),), (("ab",),), ((("a",), "b"),), (("a", ("b",)),), (("a", b"b"),),
    (("a", 0.5, None, ("b", (2**70,))), ("a", np.float32(0.5), None, ("b", (2.0**70,)))),
]  # fmt: skip
UNHASHABLE = [[], {}, set(), bytearray(b"a"), ([],), (1, ({},)), np.zeros(2)]


class MappingContract:
    """Tests over the fixture `m`: an empty mapping. `parameters` None: a dict, else ShmMap's."""

    parameters: ClassVar[dict[str, Any] | None] = None

    @pytest.fixture
    def m(self, make: Any) -> Any:
        return {} if self.parameters is None else make(**self.parameters)

    @pytest.fixture
    def abc(self, m: Any) -> Any:
        for number, letter in enumerate("abc"):
            m[letter] = number
        return m

    # -- keys -------------------------------------------------------------------------

    def test_keys_that_dict_has_equal_are_one_key(self, m):
        pairs = [pair for group in EQUAL_KEYS for pair in itertools.product(group, repeat=2)]
        for wrote, asked in pairs:
            m[wrote] = "first"
            assert asked in m, (wrote, asked)
            m[asked] = "second"
            assert m[wrote] == "second", (wrote, asked)
            assert len(m) == 1, (wrote, asked)
            assert m.pop(asked) == "second", (wrote, asked)
            assert wrote not in m, (wrote, asked)

    def test_keys_that_dict_has_unequal_are_many_keys(self, m):
        firsts = [group[0] for group in EQUAL_KEYS]
        for number, key in enumerate(firsts):
            m[key] = number
        assert len(m) == len(firsts)
        assert [m[key] for key in firsts] == list(range(len(firsts)))
        assert set(m) == set(firsts)
        for key in firsts:
            del m[key]
        assert not m

    def test_a_named_tuple_is_the_tuple_it_equals(self, m):
        m[Point(1, 2)] = "here"
        assert m[1, 2] == "here"
        assert list(m) == [(1, 2)]

    @pytest.mark.parametrize("key", UNHASHABLE, ids=lambda key: type(key).__name__)
    def test_an_unhashable_key_is_a_type_error(self, m, key):
        m[1] = 1  # an empty dict does not even look at the key that it is to pop
        for use in (
            lambda: m[key], lambda: m.get(key), lambda: key in m, lambda: m.pop(key, 0),
            lambda: m.setdefault(key, 1), lambda: m.__setitem__(key, 1),
            lambda: m.__delitem__(key),
        ):  # fmt: skip
            with pytest.raises(TypeError):
                use()
        assert dict(m) == {1: 1}

    # -- one key ----------------------------------------------------------------------

    def test_empty(self, m):
        assert len(m) == 0
        assert not m
        assert list(m) == list(m.keys()) == list(m.values()) == list(m.items()) == []
        assert m == {}

    def test_get_set_del(self, m):
        m["a"] = 1
        m["a"] = 2
        assert m["a"] == m.get("a") == m.get("a", 9) == 2
        assert "a" in m
        assert bool(m)
        del m["a"]
        assert "a" not in m
        assert m.get("a") is None
        assert m.get("a", 9) == 9

    @pytest.mark.parametrize("key", ["x", 5, (1, "y"), None])
    def test_a_missing_key_is_a_key_error_that_names_it(self, abc, key):
        for use in (lambda: abc[key], lambda: abc.__delitem__(key), lambda: abc.pop(key)):
            with pytest.raises(KeyError) as caught:
                use()
            assert caught.value.args == (key,)
        assert len(abc) == 3

    def test_a_none_value_is_not_a_missing_one(self, m):
        m["n"] = None
        assert "n" in m
        assert m.get("n", 1) is None
        assert m.setdefault("n", 1) is None
        assert m.pop("n", 1) is None

    def test_pop(self, abc):
        assert abc.pop("a") == 0
        assert abc.pop("a", "default") == "default"
        assert abc.pop("a", None) is None
        assert abc == {"b": 1, "c": 2}

    def test_popitem_empties_it(self, abc):
        assert {abc.popitem() for _ in range(3)} == {("a", 0), ("b", 1), ("c", 2)}
        assert not abc
        with pytest.raises(KeyError):
            abc.popitem()

    def test_setdefault(self, m):
        assert m.setdefault("a", 1) == 1
        assert m.setdefault("a", 2) == 1
        assert m.setdefault("b") is None
        assert m == {"a": 1, "b": None}

    # -- many keys --------------------------------------------------------------------

    def test_update_takes_what_dict_takes(self, m):
        m.update({"a": 1})
        m.update([("b", 2), ("c", 3)])
        m.update(iter([("d", 4)]), e=5)
        m.update(self=6)
        m.update()
        assert m == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "self": 6}
        with pytest.raises(TypeError):
            m.update({}, {})
        with pytest.raises(TypeError):
            m.update(5)

    def test_or_gives_a_new_mapping(self, abc):
        other = {"c": "other", "d": 3}
        assert abc | other == {"a": 0, "b": 1, "c": "other", "d": 3}
        assert other | abc == {"a": 0, "b": 1, "c": 2, "d": 3}
        assert abc == {"a": 0, "b": 1, "c": 2}
        with pytest.raises(TypeError):
            abc | [("a", 1)]
        with pytest.raises(TypeError):
            [("a", 1)] | abc

    def test_or_in_place(self, abc):
        same = abc
        abc |= {"a": "new"}
        abc |= [("d", 3)]
        assert abc is same
        assert abc == {"a": "new", "b": 1, "c": 2, "d": 3}

    def test_equality(self, abc):
        assert abc == {"c": 2, "b": 1, "a": 0}
        plain = {"c": 2, "b": 1, "a": 0}
        assert plain == abc
        assert abc != {"a": 0, "b": 1}
        assert abc != {"a": 0, "b": 1, "c": 3}
        assert abc != [("a", 0), ("b", 1), ("c", 2)]
        assert abc != 3

    def test_copies_to_a_dict(self, abc):
        assert dict(abc) == dict(abc.items()) == {**abc} == {"a": 0, "b": 1, "c": 2}

    def test_clear(self, abc):
        abc.clear()
        assert not abc
        assert list(abc) == []
        abc["a"] = 5
        assert abc == {"a": 5}
        abc.clear()
        abc.clear()
        assert len(abc) == 0

    def test_views_are_live(self, m):
        keys, values, items = m.keys(), m.values(), m.items()
        m["a"], m["b"] = 1, [2]
        assert set(keys) == {"a", "b"}
        assert len(keys) == len(values) == len(items) == 2
        assert "a" in keys and "x" not in keys
        assert [2] in values and 3 not in values
        assert ("a", 1) in items and ("a", 2) not in items and ("x", 1) not in items
        assert sorted(map(repr, items)) == ["('a', 1)", "('b', [2])"]
        del m["b"]
        assert list(keys) == ["a"] and list(values) == [1] and list(items) == [("a", 1)]

    def test_views_are_sets(self, abc):
        assert abc.keys() == {"a", "b", "c"} == abc.keys()
        assert abc.keys() & {"a", "x"} == {"a"}
        assert abc.keys() | {"x"} == {"a", "b", "c", "x"}
        assert abc.keys() - {"a"} == {"b", "c"}
        assert abc.keys() ^ {"a", "x"} == {"b", "c", "x"}
        assert abc.keys() <= {"a", "b", "c"} and abc.keys() > {"a"}
        assert abc.keys().isdisjoint({"x"})
        assert abc.items() & {("a", 0), ("a", 1)} == {("a", 0)}

    def test_many_entries(self, m):
        wanted = {f"key-{i}": i * i for i in range(400)}
        m.update(wanted)
        assert len(m) == 400
        assert dict(m.items()) == wanted
        assert sorted(m) == sorted(wanted)
        for key in list(wanted)[::2]:
            del m[key], wanted[key]
        assert m == wanted
        assert sorted(m.values()) == sorted(wanted.values())

    def test_it_is_a_mutable_mapping_without_a_hash(self, m):
        assert isinstance(m, MutableMapping)
        with pytest.raises(TypeError):
            hash(m)

    def test_repr_says_what_it_is(self, abc):
        assert repr(abc)
        assert all(repr(view) for view in (abc.keys(), abc.values(), abc.items()))


class ShmMappingContract(MappingContract):
    """What goes beyond dict, or must differ from it."""

    @pytest.mark.parametrize(
        "key", [float("nan"), np.float32("nan"), (1, float("nan"))], ids=["float", "numpy", "tuple"]
    )
    def test_nan_is_refused(self, m, key):
        for use in (lambda: m.__setitem__(key, 1), lambda: m.get(key), lambda: key in m):
            with pytest.raises(TypeError, match=r"NaN|float32"):
                use()
        assert len(m) == 0

    @pytest.mark.parametrize(
        "key", [object(), 1j, np.datetime64("2024-01-01"), int, range(3)], ids=repr
    )
    def test_other_hashable_keys_are_refused(self, m, key):
        with pytest.raises(TypeError, match="a key must be"):
            m[key] = 1
        assert len(m) == 0

    def test_keys_come_back_in_their_plain_form(self, m):
        for key, plain in (
            (True, 1), (2.0, 2), (np.float32(0.5), 0.5), (Word("w"), "w"), ((True, -0.0), (1, 0)),
        ):  # fmt: skip
            m[key] = 1
            assert list(m) == [plain]
            assert repr(next(iter(m))) == repr(plain)
            assert m.popitem() == (plain, 1)

    def test_deleting_while_iterating_is_safe(self, m):
        m.update({i: i for i in range(200)})
        seen = []
        for key in m:
            seen.append(key)
            m.delete(key)
            m.delete(199 - key)
        assert len(seen) == len(set(seen))
        assert len(m) == 0

    def test_what_stays_is_iterated_exactly_once(self, m):
        m.update({("stays", i): i for i in range(100)})
        seen = []
        for number, key in enumerate(m):
            m["comes", number] = 0
            m.delete(("comes", number - 1))
            seen.append(key)
        assert sorted(key for key in seen if key[0] == "stays") == [
            ("stays", i) for i in range(100)
        ]

    def test_repr_names_the_map(self, m):
        m["a"] = 1
        assert m.name in repr(m) and "1 entries" in repr(m)
        assert m.name in repr(m.keys())
        m.close()
        assert m.name in repr(m) and "closed" in repr(m)

    def test_two_handles_are_one_map(self, m, make):
        other = make()
        m["a"] = 1
        assert other["a"] == 1
        assert other == m
        del other["a"]
        assert "a" not in m
