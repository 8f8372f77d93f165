"""apply, edit, and counters of every kind of number: each change is one step, or an error that says
so, and leaves the entry's deadline alone.
"""

from __future__ import annotations

import enum
import math
import pickle
import sys
import types
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import shmmap
from shmmap import DELETE, EditConflict


class Level(enum.IntEnum):
    LOW = 3


@pytest.fixture
def m(make: Any) -> Any:
    return make()


# -- apply ---------------------------------------------------------------------------------


def test_apply_gives_what_it_has_stored(m):
    m["n"] = 1
    assert m.apply("n", lambda n: n + 1) == 2 == m["n"]
    assert m.apply("tags", lambda tags: [*tags, "a"], default=list) == ["a"] == m["tags"]
    assert m.apply("tags", lambda tags: [*tags, "b"], list) == ["a", "b"] == m["tags"]
    assert m.apply("none", lambda _: None, default=0) is None and m["none"] is None


def test_without_a_default_a_missing_key_is_a_key_error(m):
    for change in (lambda: m.apply("k", str), lambda: m.edit("k").__enter__()):
        with pytest.raises(KeyError) as caught:
            change()
        assert caught.value.args == ("k",)
    assert "k" not in m and m.lock("k", timeout=0).acquire()


def test_a_default_is_never_changed_itself(m):
    mine = {"list": []}
    m.apply("a", lambda d: (d["list"].append(1), d)[1], default=mine)
    with m.edit("b", default=mine) as d:
        d["list"].append(2)
    assert mine == {"list": []} and m["a"] == {"list": [1]} and m["b"] == {"list": [2]}


def test_delete_removes(m):
    m["n"] = 1
    assert m.apply("n", lambda n: DELETE) is None and "n" not in m
    assert m.apply("n", lambda n: DELETE, default=0) is None and "n" not in m
    m["n"] = 1
    with m.edit("n") as n:
        n.value = DELETE
    assert "n" not in m and repr(DELETE) == "shmmap.DELETE"
    with pytest.raises(TypeError, match="cannot be stored"):
        m["n"] = DELETE
    with pytest.raises(TypeError, match="cannot be stored"):
        pickle.dumps(DELETE)


def test_what_the_function_raises_changes_nothing(m):
    m.set("n", 1, ttl=50)
    before = m.get_versioned("n")
    with pytest.raises(ZeroDivisionError):
        m.apply("n", lambda n: n / 0)
    with pytest.raises(TypeError, match="callable"):
        m.apply("n", 5)
    with pytest.raises(TypeError, match="ttl"):
        m.apply("n", lambda n: pytest.fail("called"), ttl="5")
    assert m.get_versioned("n") == before and m.inflight == 0


@pytest.mark.parametrize("make_value", [
    lambda: [1], lambda: {"a": 1}, lambda: {1, 2}, lambda: np.arange(3), lambda: bytearray(b"a"),
], ids=["list", "dict", "set", "array", "bytearray"])
def test_a_function_that_forgets_to_return_is_told_so(m, make_value):
    changes = {
        list: lambda v: v.append(2), dict: lambda v: v.update(b=2), set: lambda v: v.add(9),
        np.ndarray: lambda v: v.fill(9), bytearray: lambda v: v.extend(b"b"),
    }
    m["k"] = make_value()
    change = changes[type(make_value())]
    for default in (None, make_value):
        with pytest.raises(TypeError, match=r"'k'.*returned None.*m\.edit"):
            m.apply("k", change, default=default)
    with pytest.raises(TypeError, match="returned None"):
        m.apply("new", change, default=make_value)
    assert np.array_equal(m["k"], make_value()) or m["k"] == make_value()
    assert "new" not in m
    assert m.apply("k", lambda v: None) is None and m["k"] is None  # which is meant


def test_apply_is_tried_again_until_nobody_was_quicker(m):
    m["n"] = 0
    seen = []

    def function(n: int) -> int:
        seen.append(n)
        if len(seen) < 30:
            m["n"] = n + 100
        return n + 1

    assert m.apply("n", function) == 2901 == m["n"]
    assert seen == [100 * i for i in range(30)]


def test_apply_does_not_try_for_ever(make):
    m = make(lock_timeout=0.05)
    m["n"] = 0
    with pytest.raises(EditConflict, match=r"'n': others have changed.*m\.edit"):
        m.apply("n", lambda n: m.set("n", n + 1) or "never stored")
    assert 8 <= m["n"] < 10**6


def test_a_function_may_use_the_map_and_its_own_key(m):
    m["n"] = 1
    calls = []

    def function(n: int) -> int:
        calls.append(n)
        return n + (m.apply("n", lambda n: n * 10) if len(calls) == 1 else 0)

    assert m.apply("n", function) == 10 and calls == [1, 10]


def test_a_value_that_cannot_be_read_is_left_alone(m, monkeypatch):
    module = types.ModuleType("jobs_of_yesterday")
    exec("class Job: pass", module.__dict__)
    module.Job.__module__ = module.__name__
    monkeypatch.setitem(sys.modules, module.__name__, module)
    m["job"] = module.Job()
    version = m.get_versioned("job")[1]
    with monkeypatch.context() as without:
        without.delitem(sys.modules, module.__name__)
        for change in (lambda: m.apply("job", lambda job: 1, default=1), lambda: m.incr("job"),
                       lambda: m.edit("job", default=1).__enter__()):
            with pytest.raises(Exception, match=r"jobs_of_yesterday|cannot be read"):
                change()
        assert m.lock("job", timeout=0).acquire()
    assert type(m["job"]) is module.Job and m.get_versioned("job")[1] == version


def test_a_safe_map_takes_no_pickles_from_a_change(make):
    m = make(codec="safe")
    for change in (lambda: m.apply("k", lambda v: [1j], default=1),
                   lambda: m.apply("k", lambda v: 1, default=[1j])):
        with pytest.raises(TypeError, match="safe"):
            change()
    assert "k" not in m and m.apply("k", lambda v: v + 1, default=1) == 2


# -- ttls ----------------------------------------------------------------------------------


def edited(m: Any, key: Any, **options: Any) -> None:
    with m.edit(key, **options) as value:
        value += 1


CHANGES = {
    "apply": lambda m, key, **options: m.apply(key, lambda n: n + 1, **options),
    "edit": edited,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_keeps_the_deadline_unless_told_otherwise(make, freeze, change):
    m = make(ttl=100)
    clock = freeze(m)
    m.set("a", 1, ttl=50)
    m.set("b", 1, ttl=None)
    clock.advance(10)
    change(m, "a")
    change(m, "b")
    change(m, "c", default=0)
    assert (m.ttl("a"), m.ttl("b"), m.ttl("c")) == (40, None, 100)
    change(m, "a", ttl=7)
    change(m, "b", ttl=8)
    change(m, "c", default=0, ttl=None)
    assert (m.ttl("a"), m.ttl("b"), m.ttl("c")) == (7, 8, None)
    change(m, "a", ttl=0)
    assert "a" not in m and m["b"] == m["c"] + 1 == 3


def test_a_counter_of_floats_keeps_its_deadline(make, freeze):
    m = make(ttl=100)
    clock = freeze(m)
    assert m.incr("f", 0.5, ttl=50) == 0.5 and m.incr("g", 0.5) == 0.5
    clock.advance(10)
    assert m.incr("f", 0.25, ttl=1) == 0.75 and m.incr("f") == 1.75
    assert (m.ttl("f"), m.ttl("g")) == (40, 90)
    clock.advance(41)
    assert m.incr("f", 0.5) == 0.5


def test_apply_begins_anew_where_the_entry_expires_meanwhile(make, freeze):
    m = make()
    clock = freeze(m)
    m.set("n", 5, ttl=1)
    calls = []

    def function(n: int) -> int:
        calls.append(n)
        clock.advance(2)
        return n + 1

    assert m.apply("n", function, default=0) == 1 and calls == [5, 0]


def test_what_expires_while_it_is_edited_is_no_conflict(make, freeze):
    m = make()
    clock = freeze(m)
    m.set("n", 5, ttl=1)
    with m.edit("n") as n:
        n += 1
        clock.advance(2)
    assert "n" not in m
    m.set("n", 5, ttl=1)
    with pytest.raises(EditConflict, match="has expired"), m.edit("n", ttl=9):
        clock.advance(2)


# -- through a near cache --------------------------------------------------------------------


def test_changes_do_not_touch_what_a_near_cache_holds(make):
    m, other = make(near=10, consistency="bounded", max_staleness=1000), make()
    other["d"] = {"n": 1}
    held = m["d"]
    other["d"] = {"n": 5}
    assert m["d"] is held  # a bounded answer
    assert m.apply("d", lambda d: {"n": d["n"] + 1}) == {"n": 6} == m["d"]
    held = m["d"]
    with m.edit("d") as d:
        d["n"] += 1
    assert held == {"n": 6} and m["d"] == {"n": 7}
    assert m.get_and_touch("d", 50) == {"n": 7} and m.getdel("d") == {"n": 7} and "d" not in m


def test_arrays_of_a_near_cache_are_read_only(make):
    class Mine(np.ndarray):
        def setflags(self, *args: Any, **kwargs: Any) -> None:
            raise RuntimeError

    m = make(near=10)
    m["plain"] = np.arange(3)
    m["pickled"] = np.array([[1], "x"], dtype=object)
    for key in ("plain", "pickled"):
        for _ in range(2):
            assert not m[key].flags.writeable
            with pytest.raises(ValueError, match="read-only"):
                m[key][0] = 1
        mine = m[key].copy()
        mine[0] = 1
    assert m.apply("plain", lambda a: a + 1).tolist() == [1, 2, 3]
    with m.edit("plain") as a:
        a[0] = 9
    assert m["plain"].tolist() == [9, 2, 3]
    assert make()["plain"].flags.writeable and make(near=9, near_copy=True)["plain"].flags.writeable
    m["mixed"] = [np.arange(3), {"a": 1}]
    assert m["mixed"][1] == {"a": 1}


# -- counters --------------------------------------------------------------------------------

NUMBERS = [
    3, -3, 0, 0.5, -0.5, np.int8(3), np.uint64(3), np.int64(-3), np.float64(0.5), np.float32(0.25),
    np.float16(2), Level.LOW, Fraction(1, 2), np.array(3),
]


@pytest.mark.parametrize("stored", NUMBERS, ids=repr)
@pytest.mark.parametrize("delta", NUMBERS, ids=repr)
def test_incr_adds_as_python_does(m, stored, delta):
    def as_python(number: Any) -> Any:
        return (int if isinstance(number, (int, np.integer, np.ndarray)) else float)(number)

    if not isinstance(stored, (Fraction, np.ndarray)):
        m["k"] = stored
        for got in (m.incr("k", delta), m["k"]):
            assert got == as_python(stored) + as_python(delta)
            assert type(got) is type(as_python(stored) + as_python(delta))
        assert m.decr("k", delta) == as_python(stored)
    wanted = as_python(stored) + as_python(delta)
    for got in (m.incr("new", delta, initial=stored), m["new"]):
        assert got == wanted and type(got) is type(wanted)
    assert m.decr("new", delta) == as_python(stored)


def test_decr(m):
    assert m.decr("n") == -1 and m.decr("n", 5) == -6 and m.decr("n", -6) == 0
    assert m.decr("new", 2, initial=10) == 8 and m.decr("f", 0.5, 1) == 0.5


@pytest.mark.parametrize("delta", [1, 0.5])
def test_incr_of_what_is_there_only(m, delta):
    for count in (m.incr, m.decr):
        with pytest.raises(KeyError) as caught:
            count("n", delta, create=False)
        assert caught.value.args == ("n",) and "n" not in m
    m["n"] = 5
    assert m.incr("n", delta, create=False) == 5 + delta
    assert m.decr("n", delta, create=False) == 5
    m.set("n", 5, ttl=-1)
    with pytest.raises(KeyError):
        m.incr("n", create=False)
    assert m.inflight == 0 and m.check() == []


@pytest.mark.parametrize("value", [True, "5", b"5", None, [1], 1j, Decimal(1), np.bool_(True),
                                   np.timedelta64(1, "s"), np.array([1, 2])], ids=repr)
def test_what_is_no_number_is_told_and_left(m, value):
    m["k"] = value
    before = m.get_versioned("k")[1]
    for delta in (1, 0.5):
        with pytest.raises(TypeError, match=rf"'k' is no number.*{type(value).__name__}.*apply"):
            m.incr("k", delta)
    assert m.get_versioned("k")[1] == before
    for count in (m.incr, m.decr):
        with pytest.raises(TypeError, match="delta"):
            count("n", value)
        with pytest.raises(TypeError, match="initial"):
            count("n", 1, initial=value)
    assert "n" not in m


def test_a_sum_that_no_counter_can_hold_changes_nothing(m):
    for value, delta in ((1e308, 1e308), (2**63 - 1, 1), (np.int64(2**63 - 1), 1), (1 << 70, 1),
                         (0.5, math.inf), (0.5, math.nan), (5, math.inf), (1 << 2000, 0.5)):
        m["k"] = value
        with pytest.raises(OverflowError, match="'k' is at"):
            m.incr("k", delta)
        assert m["k"] == value
        with pytest.raises(OverflowError):
            m.incr("new", delta, initial=value)
    assert "new" not in m and m.incr("k2", -1, initial=2**63 - 1) == 2**63 - 2
    m["k"] = 1 << 63
    assert m.incr("k", -1) == (1 << 63) - 1 == m.incr("k", 0)  # from where it is, too


def test_a_float_takes_room_as_a_write_does(make):
    m = make(capacity=50, value_size=8, shards=1)
    try:
        for i in range(1000):
            m[i] = 1.5
    except shmmap.MapFull:
        pass
    for _ in range(3):
        assert m.incr(0, 0.5) > 1.5  # an overwrite of one slot always fits
    with pytest.raises(shmmap.MapFull):
        m.incr("new" * 40, 0.5)


# -- get_and_touch, getdel -------------------------------------------------------------------


def test_get_and_touch(make, freeze):
    m = make(ttl=100)
    clock = freeze(m)
    assert m.get_and_touch("k") is None and m.get_and_touch("k", 5, "none") == "none"
    for value in (1, "x" * 600, ["pickled", "y" * 3000], b"", None):
        m.set("k", value, ttl=50)
        clock.advance(10)
        assert m.get_and_touch("k", 70) == value and m.ttl("k") == 70
        assert m.get_and_touch("k", None) == value and m.ttl("k") is None
        assert m.get_and_touch("k") == value and m.ttl("k") == 100
        assert m.get_and_touch("k", 0) == value and "k" not in m
        assert m.get_and_touch("k", -1, "none") == "none"
    with pytest.raises(TypeError):
        m.get_and_touch("k", "5")
    m.set("k", 1, ttl=5)
    clock.advance(6)
    assert m.get_and_touch("k", 70) is None and "k" not in m
    assert m.inflight == 0 and m.check() == []


def test_get_and_touch_is_a_new_version(m):
    m["k"] = 1
    version = m.get_versioned("k")[1]
    assert m.get_and_touch("k") == 1
    assert not m.cas("k", 2, version) and m["k"] == 1


def test_getdel(m):
    m["k"] = [1]
    assert m.getdel("k") == [1] and m.getdel("k") is None and m.getdel("k", 5) == 5


def test_a_text_is_no_list_of_keys(m):
    m.update(a=1, b=2, ab=3)
    for act in (m.delete_many, m.get_many):
        for text in ("ab", b"ab"):
            with pytest.raises(TypeError, match="is one key: give a list"):
                act(text)
    assert len(m) == 3


def test_a_coroutine_function_is_refused_where_a_plain_one_is_called(m):
    async def compute(value: Any = 0) -> int:
        return 1

    with pytest.raises(TypeError, match=r"await m\.aget_or_set"):
        m.get_or_set("a", compute)
    with pytest.raises(TypeError, match=r"async with m\.edit"):
        m.apply("a", compute, default=1)
    assert "a" not in m
