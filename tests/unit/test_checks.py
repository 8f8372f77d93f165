"""Numbers that callers give: all of Python's forms that say them exactly, and nothing else."""

from __future__ import annotations

import datetime
import enum
import os
import pickle
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import shmmap
from shmmap import checks
from shmmap.lifecycle.parameters import check_name as checks_of_name


class Index:
    def __init__(self, number: int) -> None:
        self.number = number

    def __index__(self) -> int:
        return self.number


WHOLE = [Index, np.int16, np.uint32, np.int64, np.uint64, np.longlong, np.array]
NO_WHOLE = [True, np.bool_(True), 1.0, np.float64(1), "1", b"1", None, Decimal(1), Fraction(1), [1]]
REAL = [*WHOLE, float, np.float16, np.float32, np.float64, np.longdouble, Fraction,
        lambda number: datetime.timedelta(seconds=number)]
NO_REAL = [True, np.bool_(True), "1", b"1", Decimal(1), 1j, np.complex64(1), [1],
           np.timedelta64(1, "s")]  # fmt: skip


@pytest.mark.parametrize("form", WHOLE)
def test_every_integer_is_taken_where_an_int_is(make, name, form):
    assert type(checks.whole(form(5), "x")) is int
    m = make(size=1_000_000, near=form(5), shards=form(2),
             value_size=form(50), key_size=form(8), mode=form(0o600))
    assert m.incr("n", form(5)) == 5 and m.incr("n", form(1)) == 6
    assert m.incr("new", form(1), initial=form(100)) == 101
    with pytest.raises(OverflowError):
        m.incr("n", Index(1 << 63))
    assert m.scan(form(0))[0] >= 0
    m.set("t", 1, ttl=form(60))
    assert 59 < m.ttl("t") <= 60
    assert all(value is None or type(value) in (int, str, bool)
               for value in m.attachment.parameters), "they are compared, and written to dumps"
    with shmmap.ShmMap(name + "b", capacity=form(100), ephemeral=True) as other:
        assert other.attachment.parameters.capacity == 100


def test_a_version_in_any_form(make):
    m = make()
    m["k"] = 1
    for form in (Index, np.int64, np.uint64):
        assert m.cas("k", 2, form(m.get_versioned("k")[1]))
    assert not m.cas("k", 2, np.uint64(2**64 - 1)) and not m.cas("k", 2, np.int64(-1))
    assert m.cas("new", 1, np.int8(0))


@pytest.mark.parametrize("form", REAL)
def test_every_real_number_is_taken_where_seconds_are(make, name, form):
    assert type(checks.seconds(form(5), "x")) in (int, float)
    m = make(ttl=form(50), max_age=form(60), sweep_interval=form(30), lock_timeout=form(5), near=4)
    m["k"] = 1
    assert 49 < m.ttl("k") <= 50
    for write in (lambda ttl: m.set("k", 1, ttl), lambda ttl: m.touch("k", ttl),
                  lambda ttl: m.add("a", 1, ttl), lambda ttl: m.get_or_set("g", int, ttl),
                  lambda ttl: m.get_or_set("h", int, ttl, stale=ttl)):  # fmt: skip
        write(form(7))
    assert 6 < m.ttl("k") <= 7 and 13 < m.ttl("h") <= 14
    assert m.get("k", consistency="bounded", max_staleness=form(1)) == 1
    with m.lock("l", timeout=form(3), lease=form(9)):
        pass
    m.set("gone", 1, ttl=form(0))
    assert "gone" not in m


@pytest.mark.parametrize("value", NO_WHOLE, ids=repr)
def test_what_is_no_integer_is_refused(make, name, value):
    m = make(near=4)
    m["k"] = 1
    for use in (
        lambda: m.scan(value), lambda: m.cas("k", 1, value),
        lambda: shmmap.ShmMap(name + "b", near=value), lambda: checks.whole(value, "x"),
    ):
        with pytest.raises(TypeError, match=type(value).__name__):
            use()
    for option in ("size", "capacity", "shards", "value_size", "key_size", "mode", "owner_uid"):
        if value is not None and not (option == "size" and isinstance(value, str)) and not (
            option in ("size", "capacity") and isinstance(value, float)
        ):
            with pytest.raises(TypeError, match=option):
                shmmap.ShmMap(name + "b", **{option: value})
    assert m == {"k": 1}


@pytest.mark.parametrize("value", NO_REAL, ids=repr)
def test_what_is_no_number_is_refused(make, value):
    m = make()
    m["k"] = 1
    for use in (lambda: m.incr("k", value), lambda: m.incr("k", 1, initial=value),
                lambda: m.decr("k", value), lambda: checks.number(value, "x")):
        with pytest.raises(TypeError, match=rf"a number.*{type(value).__name__}"):
            use()
    assert m == {"k": 1}


@pytest.mark.parametrize("value", NO_REAL, ids=repr)
def test_what_is_no_number_of_seconds_is_refused(make, name, value):
    m = make(near=4)
    m["k"] = 1
    for use in (
        lambda: m.set("k", 1, value), lambda: m.touch("k", value), lambda: m.incr("k", ttl=value),
        lambda: m.get_or_set("g", int, value, stale=1),
        lambda: m.get_or_set("g", int, 1, stale=value),
        lambda: m.get("k", consistency="bounded", max_staleness=value),
        lambda: m.lock("l", lease=value), lambda: m.get_or_set("g", int, timeout=value),
        *(lambda option=option: shmmap.ShmMap(name + "b", **{option: value})
          for option in ("ttl", "max_age", "sweep_interval", "lock_timeout")),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=rf"seconds.*{type(value).__name__}"):
            use()
    assert m == {"k": 1} and m.ttl("k") is None


HUGE = 10**5000  # more digits than Python prints


@pytest.mark.parametrize("value", [HUGE, -HUGE, Index(HUGE)], ids=["huge", "less", "index"])
def test_a_number_of_any_length_is_refused_in_words(make, name, value):
    m = make(near=4)
    m["k"] = 1
    for error, use in (
        (OverflowError, lambda: m.incr("k", value)),
        (OverflowError, lambda: m.incr("k", 1, initial=value)),
        (ValueError, lambda: m.scan(value)),
        (ValueError, lambda: m.lock("l", timeout=value)),
        (ValueError, lambda: m.lock("l", lease=value)),
        (ValueError, lambda: m.get_or_set("g", int, 1, stale=value)),
        (ValueError, lambda: m.get_or_set("g", int, timeout=value)),
        (ValueError, lambda: m.get("k", consistency="bounded", max_staleness=value)),
        (ValueError, lambda: m.get("k", max_staleness=value)),
        *((ValueError, lambda option=option: shmmap.ShmMap(name + "b", **{option: value}))
          for option in ("size", "capacity", "shards", "value_size", "key_size", "ttl", "max_age",
                         "sweep_interval", "mode", "lock_timeout", "near", "owner_uid")),
    ):  # fmt: skip
        with pytest.raises(error) as caught:
            use()
        assert "digits" not in str(caught.value) and len(str(caught.value)) < 600
        assert not isinstance(caught.value, shmmap.ShmMapError)
    assert m == {"k": 1} and not m.cas("k", 2, value)


@pytest.mark.parametrize("ttl", [HUGE, Fraction(10**400), Index(HUGE), float("inf")],
                         ids=["int", "fraction", "index", "inf"])
def test_a_ttl_of_any_length(make, ttl):
    m = make()
    m.set("k", 1, ttl)
    assert m.get_or_set("g", int, ttl) == 0 and m.ttl("k") is m.ttl("g") is None
    m.set("k", 1, -ttl if not isinstance(ttl, Index) else Index(-HUGE))
    assert "k" not in m


def test_numpys_bools_are_bools(make, name):
    m = make(near=4, near_copy=np.bool_(True))
    assert m._reading[1] is True
    with shmmap.ShmMap(name + "b", size="300KB", ephemeral=np.bool_(True)) as other:
        assert other.attachment.parameters.ephemeral is True
    for value in (1, "True", np.int8(1), np.array([True])):
        for option in ("ephemeral", "near_copy"):
            with pytest.raises(TypeError, match=f"{option}.*{type(value).__name__}"):
                shmmap.ShmMap(name + "b", near=4, **{option: value})


def test_near_copy_goes_with_near(make):
    with pytest.raises(ValueError, match="near=N"):
        make(near_copy=True)


def test_what_incr_cannot_count_is_told(make):
    m = make()
    for value in (True, "5", 5j):
        m["k"] = value
        with pytest.raises(TypeError, match="'k' is no number"):
            m.incr("k")
    m["k"] = 1 << 70
    with pytest.raises(OverflowError, match="'k' is at 1180591620717411303424"):
        m.incr("k")


class Name(str, enum.Enum):
    """A name whose text, formatted, is another one in some versions of Python."""

    PLAIN = "plain"
    ODD = "../odd"


class OtherText(str):
    def __str__(self) -> str:
        return "another-map"

    def __format__(self, spec: str) -> str:
        return "another-map"

    __repr__ = __str__


@pytest.mark.parametrize("kind", [OtherText, np.str_])
def test_a_name_of_a_subclass_of_str_is_its_characters(make, name, kind):
    m = make()
    m["a"] = 1
    for same in (shmmap.ShmMap(kind(name)), shmmap.ShmMap.attach(kind(name))):
        assert same["a"] == 1 and type(same.name) is str and same.name == name
        assert repr(same) == repr(m) and pickle.loads(pickle.dumps(same))["a"] == 1
        same.close()
    m.dump(f"/tmp/{name}.dump")
    try:
        with shmmap.ShmMap.load(OtherText(f"/tmp/{name}.dump"), kind(name + "b")) as loaded:
            assert loaded.name == name + "b" and loaded["a"] == 1
            loaded.unlink()
    finally:
        os.unlink(f"/tmp/{name}.dump")
    shmmap.ShmMap.attach(kind(name)).unlink()
    with shmmap.ShmMap.create(kind(name), size="300KB") as m:
        m.unlink()


def test_a_name_that_is_a_member_of_an_enum(make):
    assert checks_of_name(Name.PLAIN) == "plain" and type(checks_of_name(Name.PLAIN)) is str
    for wrong in (Name.ODD, OtherText("a/b"), OtherText("")):
        with pytest.raises(ValueError, match="cannot be a map's name"):
            shmmap.ShmMap(wrong)


@pytest.mark.parametrize("form", [float, np.float64])
def test_a_whole_float_is_a_size_and_a_number_of_entries(make, name, form):
    assert make(size=form(1e6)).attachment.parameters.size == 1_000_000
    with shmmap.ShmMap(name + "b", capacity=form(1e3), ephemeral=True) as other:
        assert type(other.capacity) is int and other.capacity == 1000
    for wrong in (1.5, float("nan"), float("inf")):
        for option in ("size", "capacity"):
            with pytest.raises(TypeError, match=f"{option} must be"):
                shmmap.ShmMap(name + "b", **{option: form(wrong)})


class NoRepr:
    def __repr__(self) -> str:
        raise OSError


@pytest.mark.parametrize(("key", "text"), [
    ("k", "'k'"), (("a", 1), "('a', 1)"), (1 << 20_000, "0x1000"), (NoRepr(), "a NoRepr"),
    ((1 << 20_000,), "a tuple"), ("k" * 1000, "(1,002 characters)"),
], ids=["str", "tuple", "many digits", "no repr", "in a tuple", "long"])  # fmt: skip
def test_any_key_can_be_shown_in_an_error(key: Any, text: str) -> None:
    assert text in checks.shown(key) and len(checks.shown(key)) < 200
