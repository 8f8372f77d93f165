"""Values that cannot be decoded where they are read: whoever meets one learns of which key, and
nobody takes its own errors for a missing entry."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

import shmmap


class Odd(Exception):
    """Can be pickled, and not unpickled."""

    def __init__(self, one: Any, other: Any) -> None:
        super().__init__(one)


class Raises:
    """Raises an error of some class while it is unpickled."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def __reduce__(self) -> Any:
        return throw, (self.kind,)


def throw(kind: type[BaseException]) -> None:
    raise kind("from within")


class Sealed(Exception):
    """Takes no attributes."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(name)


def all_that_is_said(error: BaseException) -> str:
    return f"{error} {getattr(error, '__notes__', '')} {error.__cause__}"


class Once:
    """Raises while it is unpickled, but the first time only, as a signal handler does."""

    kind: type[BaseException] | None = None

    def __reduce__(self) -> Any:
        return unpickle_once, ()


def unpickle_once() -> str:
    kind, Once.kind = Once.kind, None
    if kind is not None:
        raise kind("once")
    return "read"


READS = {
    "[]": lambda m: m["odd"], "get": lambda m: m.get("odd"),
    "get_many": lambda m: m.get_many(["k1", "odd"]),
    "get_versioned": lambda m: m.get_versioned("odd"), "items": lambda m: list(m.items()),
    "values": lambda m: list(m.values()), "prefix": lambda m: list(m.items(prefix="od")),
    "scan": lambda m: [m.scan(cursor) for cursor in range(0, 4096, 64)],
    "dict": lambda m: dict(m), "==": lambda m: m == {}, "|": lambda m: m | {},
    "in items": lambda m: ("odd", 1) in m.items(),
    "in values": lambda m: object() in m.values(),
    "setdefault": lambda m: m.setdefault("odd", 1), "pop": lambda m: m.pop("odd", None),
    "popitem": lambda m: [m.popitem() for _ in range(60)],
    "snapshot []": lambda m: m.snapshot()["odd"], "snapshot get": lambda m: m.snapshot().get("odd"),
    "snapshot items": lambda m: list(m.snapshot().items()),
    "snapshot dict": lambda m: dict(m.snapshot()),
}  # fmt: skip
NEAR = [
    {}, {"near": 10}, {"near": 10, "near_copy": True}, {"near": 10, "consistency": "session"},
    {"near": 10, "consistency": "bounded", "max_staleness": 9},
]  # fmt: skip


@pytest.fixture(params=NEAR, ids=str)
def m(request: Any, make: Any) -> Any:
    opened = make(**request.param)
    opened.set_many({f"k{i}": i for i in range(50)})
    return opened


@pytest.mark.parametrize("read", [*READS.values()], ids=[*READS])
def test_the_error_names_map_and_key_and_has_the_values_own_as_its_cause(m, read):
    m["odd"] = Odd(1, 2)
    for _ in range(2):
        with pytest.raises(shmmap.ValueUnreadable, match=f"map '{m.name}', key 'odd'") as caught:
            read(m)
        assert (caught.value.name, caught.value.key) == (m.name, "odd")
        assert isinstance(caught.value, shmmap.ShmMapError)
        assert isinstance(caught.value.__cause__, TypeError)
        assert "missing 1 required" in str(caught.value) and caught.value.__cause__.__traceback__
    assert "odd" in m and len(list(m)) == len(m), "keys alone can be listed"
    assert m.delete("odd") and len(dict(m)) == len(m) and m.check() == []


def test_pop_and_popitem_lose_nothing(m):
    m["odd"] = Odd(1, 2)
    found: list[Any] = []
    while len(m) > 1:
        try:
            found.append(m.popitem())
        except shmmap.ValueUnreadable:
            assert "odd" in m
    with pytest.raises(shmmap.ValueUnreadable):
        m.popitem()
    with pytest.raises(shmmap.ValueUnreadable):
        m.pop("odd", "a default")
    assert sorted(found) == sorted((f"k{i}", i) for i in range(50)) and list(m) == ["odd"]


def test_a_replacement_is_encoded_before_anything_is_taken(m):
    m["odd"] = Odd(1, 2)
    version = dict(m.snapshot().items(on_unreadable="skip")), list(m)
    with pytest.raises(TypeError, match="pickle"):
        m.replace("odd", (lambda: 0).__code__)
    assert (dict(m.snapshot().items(on_unreadable="skip")), list(m)) == version
    assert m.replace("odd", "new") and m["odd"] == "new"  # as set does: it reads nothing


LISTINGS = {
    "items": lambda m, **how: list(m.items(**how)),
    "prefix": lambda m, **how: list(m.items(prefix="", **how)),
    "values": lambda m, **how: [(f"k{value}", value) for value in m.values(**how)],
    "get_many": lambda m, **how: [*m.get_many([*m, "none"], **how).items()],
    "scan": lambda m, **how: scanned(m, **how),
    "snapshot": lambda m, **how: list(m.snapshot(**how).items()),
    "snapshot items": lambda m, **how: list(m.snapshot().items(**how)),
    "snapshot values": lambda m, **how: [
        (f"k{value}", value) for value in m.snapshot(**how).values()],
    "snapshot dict": lambda m, **how: dict(m.snapshot(**how).items()).items(),
}  # fmt: skip


def scanned(m: Any, **how: Any) -> list[Any]:
    found, cursor = [], None
    while cursor != 0:
        cursor, part = m.scan(cursor or 0, **how)
        found += part
    return found


@pytest.mark.parametrize("listing", [*LISTINGS.values()], ids=[*LISTINGS])
def test_listings_go_on(m, listing):
    m.set_many({"odd": Odd(1, 2), "gone": Raises(KeyError)})
    right = [(f"k{i}", i) for i in range(50)]
    assert sorted(listing(m, on_unreadable="skip")) == sorted(right)
    told: list[shmmap.ValueUnreadable] = []
    assert sorted(listing(m, on_unreadable=told.append)) == sorted(right)
    assert sorted(error.key for error in told) == ["gone", "odd"]
    assert {type(error.__cause__) for error in told} == {TypeError, KeyError}
    for how in ({}, {"on_unreadable": "raise"}):
        with pytest.raises(shmmap.ValueUnreadable):
            listing(m, **how)

    def refuse(error: shmmap.ValueUnreadable) -> None:
        raise LookupError(error.key)

    with pytest.raises(LookupError, match=r"odd|gone"):
        listing(m, on_unreadable=refuse)
    for wrong, kind in (("ignore", ValueError), (5, TypeError), (True, TypeError)):
        with pytest.raises(kind, match="on_unreadable"):
            listing(m, on_unreadable=wrong)


def test_membership_goes_on_too(m):
    m["odd"] = Odd(1, 2)
    assert ("odd", 1) not in m.items(on_unreadable="skip")
    assert ("k1", 1) in m.items(on_unreadable="skip") and 7 in m.values(on_unreadable="skip")
    assert len(m.items(on_unreadable="skip")) == 51, "it counts entries"


class SoftTimeLimit(Exception):
    """As a task queue's handler of a signal raises it."""


@pytest.mark.parametrize("kind", [SoftTimeLimit, TimeoutError, MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("way", ["get", "pop", "get_or_set", "cached", "items"])
def test_what_comes_once_is_not_the_values_and_stays_what_it_is(m, kind, way):
    f: Any = shmmap.cached(m, prefix="f")(lambda: "computed")
    m.set_many({"odd": Once(), f.key_for(): Once()})
    act: dict[str, Any] = {
        "get": lambda: m.get("odd"), "pop": lambda: m.pop("odd"), "cached": f,
        "get_or_set": lambda: m.get_or_set("odd", lambda: "computed"),
        "items": lambda: list(m.items(on_unreadable="skip")),
    }
    Once.kind = kind
    with pytest.raises(kind, match="once"):
        act[way]()
    Once.kind = None
    assert "odd" in m and act[way]() and m.stats().uncached == {}


OF_THIS_PACKAGE = [
    shmmap.MapNotFound, shmmap.MapClosed, shmmap.MapUnlinked, shmmap.MapCorrupted,
    shmmap.LockTimeout, shmmap.Reentered, shmmap.SharedMemoryFull,
]  # fmt: skip


@pytest.mark.parametrize("kind", [KeyError, StopIteration, StopAsyncIteration, *OF_THIS_PACKAGE])
@pytest.mark.parametrize("read", [*READS.values()], ids=[*READS])
def test_an_error_of_a_value_says_nothing_of_the_map(m, read, kind):
    m["odd"] = Raises(kind)
    with pytest.raises(shmmap.ValueUnreadable, match=rf"key 'odd'.*{kind.__name__}") as caught:
        read(m)
    assert type(caught.value.__cause__) is kind
    assert "odd" in m


@pytest.mark.parametrize("kind", [KeyError, RecursionError, *OF_THIS_PACKAGE])
def test_a_value_that_cannot_be_read_is_computed_anew(m, kind, caplog):
    @shmmap.cached(m)
    def compute() -> int:
        return 6

    m["odd"] = Raises(kind)
    assert m.get_or_set("odd", lambda: 5) == 5 == m["odd"]
    assert f"'odd' cannot be unpickled here ({kind.__name__}" in caplog.text
    m[compute.key_for()] = Raises(kind)
    assert compute() == 6 == m[compute.key_for()] and compute.cache_info().misses == 1
    assert m.stats().uncached == {"unreadable": 2}


def test_a_pickled_map_that_is_gone_is_computed_anew(m):
    inner = shmmap.ShmMap(f"{m.name}-inner", "300KB", shards=1)
    m["table"] = inner
    inner.unlink()
    with pytest.raises(shmmap.ValueUnreadable, match=rf"key 'table'.*MapNotFound.*{inner.name}"):
        m["table"]
    assert m.get_or_set("table", lambda: 5) == 5


def test_a_result_that_is_a_closed_map_reaches_its_caller(m, make):
    closed = make()
    closed.close()
    assert m.get_or_set("table", lambda: closed) is closed
    assert m.stats().uncached == {"not_picklable": 1}


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, KeyboardInterrupt])
@pytest.mark.parametrize("read", [*READS.values()], ids=[*READS])
def test_what_ends_a_program_is_named_too(m, read, kind):
    m["odd"] = Raises(kind)
    with pytest.raises(kind, match="from within") as caught:
        read(m)
    assert f"map {m.name!r}, key 'odd'" in all_that_is_said(caught.value)


def test_a_lack_of_memory_stays_one(m):
    m["odd"] = Raises(MemoryError)
    for read in (lambda: m["odd"], lambda: m.get_or_set("odd", int)):
        with pytest.raises(MemoryError) as caught:
            read()
        assert type(caught.value) is MemoryError and "key 'odd'" in all_that_is_said(caught.value)
    with pytest.raises(MemoryError):
        list(m.items(on_unreadable="skip"))


def test_an_error_that_takes_no_attributes_is_a_cause_like_any_other(m):
    m["odd"] = Raises(Sealed)
    with pytest.raises(shmmap.ValueUnreadable, match="Sealed: from within"):
        m["odd"]


def test_an_error_that_is_one_object_is_not_noted_again_and_again(m):
    THE_SAME.__notes__ = []
    m["odd"] = RaisesTheSame()
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt, match="always"):
            m["odd"]
    assert len(THE_SAME.__notes__) == 1


THE_SAME: Any = KeyboardInterrupt("always this one")


class RaisesTheSame:
    def __reduce__(self) -> Any:
        return throw_the_same, ()


def throw_the_same() -> None:
    raise THE_SAME


def test_a_value_whose_class_is_gone(m):
    gone = types.ModuleType("gone")
    exec("class User: pass", gone.__dict__)
    sys.modules["gone"] = gone
    try:
        m["odd"] = gone.User()
    finally:
        del sys.modules["gone"]
    with pytest.raises(shmmap.ValueUnreadable, match=r"key 'odd'.*No module named 'gone'"):
        m.get("odd")
    assert m.get_or_set("odd", lambda: "computed anew") == "computed anew"
    assert m["odd"] == "computed anew"


def test_a_key_with_no_printable_form_is_named_shortly(m):
    for key in (1 << 20_000, "k" * 5000):
        m[key] = Odd(1, 2)
        with pytest.raises(shmmap.ValueUnreadable) as caught:
            m[key]
        assert len(all_that_is_said(caught.value)) < 800
        del m[key]
    with pytest.raises(TypeError, match=r"0x1000.*is no number"):
        m[1 << 20_000] = "x"
        m.incr(1 << 20_000)
