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


READS = {
    "[]": lambda m: m["odd"], "get": lambda m: m.get("odd"),
    "get_many": lambda m: m.get_many(["k1", "odd"]),
    "get_versioned": lambda m: m.get_versioned("odd"), "items": lambda m: list(m.items()),
    "values": lambda m: list(m.values()), "prefix": lambda m: list(m.items(prefix="od")),
    "scan": lambda m: [m.scan(cursor) for cursor in range(0, 4096, 64)],
    "dict": lambda m: dict(m), "==": lambda m: m == {}, "|": lambda m: m | {},
    "in items": lambda m: ("odd", 1) in m.items(),
    "in values": lambda m: object() in m.values(),
    "setdefault": lambda m: m.setdefault("odd", 1),
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
def test_the_error_is_the_values_own_and_names_map_and_key(m, read):
    m["odd"] = Odd(1, 2)
    for _ in range(2):
        with pytest.raises(TypeError, match="missing 1 required") as caught:
            read(m)
        said = all_that_is_said(caught.value)
        assert f"map {m.name!r}, key 'odd'" in said and "delete" in said
        assert any(entry.name == "decoded_value" or "unpickle" in entry.name
                   for entry in caught.traceback) or shmmap.ENGINE == "compiled"
    assert len(list(m)) == len(m) == 51 and "odd" in m, "keys alone can be listed"
    assert m.delete("odd") and len(dict(m)) == 50
    assert m.check() == []


OF_THIS_PACKAGE = [
    shmmap.MapNotFound, shmmap.MapClosed, shmmap.MapUnlinked, shmmap.MapCorrupted,
    shmmap.LockTimeout, shmmap.Reentered, shmmap.SharedMemoryFull,
]  # fmt: skip


@pytest.mark.parametrize("kind", [KeyError, StopIteration, StopAsyncIteration, *OF_THIS_PACKAGE])
@pytest.mark.parametrize("read", [*READS.values()], ids=[*READS])
def test_an_error_that_would_say_something_of_the_map_becomes_another(m, read, kind):
    m["odd"] = Raises(kind)
    with pytest.raises(RuntimeError, match=rf"key 'odd'.*{kind.__name__}") as caught:
        read(m)
    assert type(caught.value.__cause__) is kind
    assert "odd" in m


@pytest.mark.parametrize("kind", OF_THIS_PACKAGE)
def test_a_value_that_raises_an_error_of_this_package_is_computed_anew(m, kind):
    @shmmap.cached(m, key=lambda: "odd")
    def compute() -> int:
        return 6

    m["odd"] = Raises(kind)
    with pytest.warns(shmmap.CacheWarning, match=f"'odd' cannot be read.*{kind.__name__}"):
        assert m.get_or_set("odd", lambda: 5) == 5 == m["odd"]
    m["odd"] = Raises(kind)
    with pytest.warns(shmmap.CacheWarning, match=f"'odd' cannot be read.*{kind.__name__}"):
        assert compute() == 6 == m["odd"]


def test_a_pickled_map_that_is_gone_is_computed_anew(m):
    inner = shmmap.ShmMap(f"{m.name}-inner", "300KB", shards=1)
    m["table"] = inner
    inner.unlink()
    with pytest.raises(RuntimeError, match=rf"key 'table'.*MapNotFound.*{inner.name}"):
        m["table"]
    with pytest.warns(shmmap.CacheWarning, match="'table' cannot be read"):
        assert m.get_or_set("table", lambda: 5) == 5


def test_a_result_that_is_a_closed_map_reaches_its_caller(m, make):
    closed = make()
    closed.close()
    with pytest.warns(shmmap.CacheWarning, match="'table' could not be stored.*MapClosed"):
        assert m.get_or_set("table", lambda: closed) is closed
    with pytest.raises(shmmap.MapClosed, match=m.name):
        m.get_or_set("table", m.close)


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, KeyboardInterrupt])
@pytest.mark.parametrize("read", [*READS.values()], ids=[*READS])
def test_what_ends_a_program_is_named_too(m, read, kind):
    m["odd"] = Raises(kind)
    with pytest.raises(kind, match="from within") as caught:
        read(m)
    assert f"map {m.name!r}, key 'odd'" in all_that_is_said(caught.value)


@pytest.mark.parametrize("kind", [Sealed, MemoryError, RecursionError])
def test_whatever_else_it_raises_stays_of_its_class(m, kind):
    m["odd"] = Raises(kind)
    with pytest.raises(kind):
        m["odd"]


def test_an_error_that_is_one_object_is_not_noted_again_and_again(m):
    THE_SAME.__notes__ = []
    m["odd"] = RaisesTheSame()
    for _ in range(3):
        with pytest.raises(OSError, match="always"):
            m["odd"]
    assert len(THE_SAME.__notes__) == 1


THE_SAME: Any = OSError("always this one")


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
    with pytest.raises(ModuleNotFoundError) as caught:
        m.get("odd")
    assert "key 'odd'" in all_that_is_said(caught.value)
    with pytest.warns(shmmap.CacheWarning, match="'odd'.*No module named 'gone'"):
        assert m.get_or_set("odd", lambda: "computed anew") == "computed anew"
    assert m["odd"] == "computed anew"


def test_a_key_with_no_printable_form_is_named_shortly(m):
    for key in (1 << 20_000, "k" * 5000):
        m[key] = Odd(1, 2)
        with pytest.raises(TypeError) as caught:
            m[key]
        assert len(all_that_is_said(caught.value)) < 800
        del m[key]
    with pytest.raises(TypeError, match=r"0x1000.*is no number"):
        m[1 << 20_000] = "x"
        m.incr(1 << 20_000)
