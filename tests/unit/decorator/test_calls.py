"""@cached: which calls are the same call: positions, names, defaults, methods, what has no key."""

from __future__ import annotations

import asyncio
import functools
import math
import operator
from typing import Any

import pytest

import shmmap

from .functions import Double, DoubleLater, plain


def test_keys_tell_what_dicts_tell(make):
    f, _ = plain(make())
    different = [
        f.key_for(), f.key_for(1), f.key_for("1"), f.key_for(b"1"), f.key_for(1, 2), f.key_for(1.5),
        f.key_for((1, 2)), f.key_for(None), f.key_for(x=1), f.key_for(("x", 1)),
        f.key_for((("x", 1),)), f.key_for(x=1, y=2), f.key_for(1, x=2), f.key_for(()),
    ]
    assert len(set(different)) == len(different)
    assert f.key_for(x=1, y=2) == f.key_for(y=2, x=1)
    assert f.key_for(1) == f.key_for(True) == f.key_for(1.0)
    other, _ = plain(make())
    other.__wrapped__.__qualname__ = "another"
    assert other.key_for(1) != f.key_for(1)


@pytest.mark.parametrize("argument", [[1], {"a": 1}, object(), float("nan"), (1, [2])])
def test_what_is_no_key_is_computed_each_time(make, argument, caplog):
    m = make()
    f, calls = plain(m)
    assert f(argument) == f(argument) == f"({argument!r},) []" and len(calls) == 2
    f(1, x=argument)
    assert len(caplog.records) == 1, "told once"
    assert "key=" in caplog.text and "__shmmap_key__" in caplog.text and m.name in caplog.text
    assert f.cache_info() == (0, 3, {"no_key": 3}) and m.stats().uncached == {"no_key": 3}
    assert not f.invalidate(argument)
    with pytest.raises(TypeError, match="key="):
        f.key_for(argument)
    g, calls = plain(make(), key=lambda thing: "fixed")
    assert g(argument) == g(argument)
    assert len(calls) == 1 and g.key_for(argument)[-1] == "fixed"


@pytest.mark.parametrize("argument", [[1], float("nan")])
def test_a_strict_one_refuses_what_is_no_key(make, argument):
    f, calls = plain(make(), strict=True)
    for call in (lambda: f(argument), lambda: f(1, x=argument), lambda: f.refresh(argument)):
        with pytest.raises(TypeError, match="key="):
            call()
    g, calls = plain(make(), key=lambda thing: thing, strict=True)
    with pytest.raises(TypeError, match="key="):
        g(argument)
    assert not calls


def shapes(m: Any) -> dict[str, Any]:
    """Decorate functions of every shape of parameters."""
    @shmmap.cached(m)
    def plain(a: int, b: int) -> None: ...

    @shmmap.cached(m)
    def defaults(a: int, b: int = 2, c: Any = None) -> None: ...

    @shmmap.cached(m)
    def rest(a: int, b: int = 2, *more: int, c: int = 3, **named: int) -> None: ...

    @shmmap.cached(m)
    def places(a: int = 1, b: int = 2, /, **named: int) -> None: ...

    @shmmap.cached(m)
    def odd(a: int, b: Any = [], *, c: Any = object()) -> None: ...  # noqa: B006, B008

    return {name: thing for name, thing in locals().items() if name != "m"}


@pytest.mark.parametrize(("shape", "calls"), [
    ("plain", ["1, 2", "1, b=2", "b=2, a=1", "a=1, b=2", "True, b=2.0"]),
    ("defaults", ["1", "a=1", "1, 2", "1, b=2", "1, 2, None", "1, c=None", "c=None, b=2, a=1"]),
    ("defaults", ["1, 5", "1, b=5", "a=1, b=5, c=None", "1, 5, None"]),
    ("defaults", ["1, c=7", "1, 2, 7", "c=7, a=1, b=2"]),
    ("rest", ["1", "1, 2", "a=1, c=3", "1, 2, c=3"]),
    ("rest", ["1, x=1, y=2", "1, y=2, x=1", "y=2, a=1, b=2, x=1, c=3"]),
    ("rest", ["1, 2, 9", "1, 2, 9, c=3"]),
    ("rest", ["1, 4, x=5", "x=5, b=4, a=1"]),
    ("places", ["", "1", "1, 2"]),
    ("places", ["1, 5, b=7", "1, 5, **{'b': 7}"]),
    ("odd", ["1", "a=1"]),
    ("odd", ["1, 5, c=6", "c=6, b=5, a=1"]),
])
def test_however_arguments_are_passed_it_is_one_call(make, shape, calls):
    function = shapes(make())[shape]
    assert len({eval(f"f.key_for({call})", {"f": function}) for call in calls}) == 1


def test_a_parameter_may_have_any_name(make):
    @shmmap.cached(make())
    def f(self: int, m: int = 0, key: int = 0, args: int = 0, kwargs: int = 0) -> int:
        return self + m

    for call in (lambda g: g(self=5), lambda g: g(self=5, m=1, key=2, args=3, kwargs=4)):
        assert call(f) == call(f.__wrapped__)
        assert call(f.key_for)[0].endswith("<locals>.f") and call(f.invalidate)
        assert not call(f.invalidate)


@pytest.mark.parametrize(("function", "args"), [
    (str.upper, ("a",)), (str.join, (",", ("a", "b"))), (math.sqrt, (4,)), (len, ("abc",)),
    (complex, (1, 2)), (dict.fromkeys, (("a",),)), ("abc".upper, ()), (bytes.hex, (b"a",)),
    (int.bit_length, (5,)), (operator.add, (1, 2)), (str.maketrans, ("a", "b")),
], ids=str)
def test_functions_that_are_written_in_c(make, function, args):
    cached = shmmap.cached(make())(function)
    assert cached(*args) == cached(*args) == function(*args)
    assert cached.invalidate(*args) and not cached.invalidate(*args)


def test_methods_of_the_same_name_are_told_apart(make):
    m = make()
    upper = [shmmap.cached(m)(one) for one in (str.upper, Upper.upper)]
    assert [one("a") for one in upper] == ["A", "upper"]


class Upper:
    @staticmethod
    def upper(text: str) -> str:
        return "upper"


def test_other_arguments_are_another_call(make):
    f = shapes(make())
    for name, calls in {
        "defaults": ["1", "2", "1, 5", "1, c=5", "1, 5, 6", "1, 6, 5", "'1'"],
        "rest": ["1", "1, 2, 3", "1, 2, 2", "1, 2, c=9", "1, 2, 3, 9", "1, x=3", "1, 3", "1, d=3",
                 "1, 2, ('x', 3)", "1, 2, 3, x=4", "1, 2, 3, 4"],
        "places": ["", "5", "1, 5", "a=5", "b=5", "1, 5, b=7", "1, 7, b=5", "5, 7", "a=1"],
    }.items():
        keys = {eval(f"f.key_for({call})", {"f": f[name]}) for call in calls}
        assert len(keys) == len(calls), name
        assert len({repr(key) for key in keys}) == len(calls)


def test_a_call_by_position_and_one_by_name_compute_once(make):
    calls: list[Any] = []

    @shmmap.cached(make())
    def area(width: int, height: int = 1) -> int:
        calls.append((width, height))
        return width * height

    assert area(2, 3) == area(2, height=3) == area(height=3, width=2) == 6
    assert area(2) == area(2, 1) == area(width=2) == 2
    assert calls == [(2, 3), (2, 1)]
    assert area.invalidate(width=2, height=3) and area(2, 3) == 6 and len(calls) == 3


def test_wrong_arguments_are_the_functions_own_error(make):
    @shmmap.cached(make())
    def one(a: int) -> int:
        return a

    with pytest.raises(TypeError, match=r"one\(\) missing 1 required positional argument: 'a'"):
        one()
    with pytest.raises(TypeError, match="unexpected keyword argument 'b'"):
        one(1, b=2)


def test_what_a_decorator_makes_of_arguments_is_not_guessed(make):
    def with_a_default_of_its_own(function: Any) -> Any:
        @functools.wraps(function)
        def outer(*args: Any, **kwargs: Any) -> Any:
            kwargs.setdefault("b", 10)
            return function(*args, **kwargs)

        return outer

    @shmmap.cached(make())
    @with_a_default_of_its_own
    def total(a: int, b: int = 2) -> int:
        return a + b

    assert (total(1), total(1, b=2), total(1)) == (11, 3, 11)


def test_an_argument_may_be_as_long_as_it_likes(make):
    m = make()
    long = "word " * 50_000
    calls: list[Any] = []

    @shmmap.cached(m)
    def f(text: str, x: bytes = b"") -> int:
        calls.append(1)
        return len(text) + len(x)

    assert f(long, x=b"b" * 10**6) == f(long, b"b" * 10**6) == 1_250_000
    assert f(long + "!") == f(long) + 1 and len(calls) == 3
    assert len(m) == 4 and f.invalidate(long) and len(m) == 3  # one is the generation
    assert len(set(map(f.key_for, (long, long + "!", long.encode(), "word")))) == 4
    g = shmmap.cached(m, key=lambda text: text)(len)
    assert g(long) == g(long) == 250_000 and g("short") == 5 == m[g.key_for("short")]


class Page:
    """An object that says what it is by a key."""

    def __init__(self, number: int) -> None:
        self.number, self.drawn = number, 0

    def __shmmap_key__(self) -> int:
        return self.number


class Sheet(Page):
    """Of the same number, and another class."""


def test_methods_of_objects_that_say_their_key(make, caplog):
    def draw(self: Page, size: int = 1) -> int:
        self.drawn += 1
        return self.number * size

    Page.draw = shmmap.cached(make())(draw)  # type: ignore[attr-defined]
    one: Any = Page(1)
    same: Any = Page(1)
    other: Any = Page(2)
    sheet: Any = Sheet(1)
    assert (one.draw(3), one.draw(size=3), same.draw(3), other.draw(3)) == (3, 3, 3, 6)
    assert (one.drawn, same.drawn, other.drawn) == (1, 0, 1)
    assert sheet.draw(3) == 3 and sheet.drawn == 1
    assert one.draw.invalidate(one, 3) and one.draw.cache_info().misses == 3
    assert one.draw(3) == 3 and one.drawn == 2 and not caplog.records


def test_methods_of_objects_that_do_not_are_computed_each_time(make, caplog):
    class Mute:
        @shmmap.cached(make())
        def draw(self, number: int) -> int:
            return number

    assert Mute().draw(3) == Mute().draw(3) == 3
    assert "__shmmap_key__" in caplog.text and len(caplog.records) == 1


def test_a_key_function_makes_the_key_of_a_method(make):
    class Bare:
        drawn = 0

        @shmmap.cached(make(), key=lambda page, number: number)
        def draw(self, number: int) -> int:
            self.drawn += 1
            return number

    page = Bare()
    assert (page.draw(3), page.draw(3), page.drawn) == (3, 3, 1)


def test_class_methods_and_properties(make):
    m = make()
    calls: list[Any] = []

    class Model(Page):
        @classmethod
        @shmmap.cached(m)
        def below(cls, name: str) -> str:
            calls.append(cls)
            return f"{cls.__name__} {name}"

        @shmmap.cached(m)
        @classmethod
        def above(cls, name: str) -> str:
            calls.append(cls)
            return f"{cls.__name__} {name}"

        @property
        @shmmap.cached(m)
        def size(self) -> int:
            calls.append(self)
            return self.number

    class Special(Model):
        pass

    for way in ("below", "above"):
        for kind in (Model, Special, Model(1)):
            assert getattr(kind, way)("x") == getattr(kind, way)(name="x")
        assert calls == [Model, Special] and getattr(Special, way)("x") == "Special x"
        assert getattr(Model, way).invalidate(Model, "x")
        assert not getattr(Model, way).invalidate(Model, "x")
        calls.clear()
    assert Model(4).size == Model(4).size == 4 and len(calls) == 1


NAMELESS = [
    lambda n: 2 * n, functools.partial(lambda factor, n: factor * n, 2), Double(),
    functools.partial(max, 6), functools.partial(DoubleLater(), 3),
]


@pytest.mark.parametrize("function", NAMELESS)
@pytest.mark.parametrize("parameters", [
    {"key": lambda *n: ("double", n)}, {"prefix": "double"},
], ids=["key", "prefix"])
def test_what_has_no_name_needs_a_prefix_or_a_key_function(make, function, parameters):
    m = make()
    with pytest.raises(TypeError, match=r"prefix=.*key="):
        shmmap.cached(m)(function)
    f: Any = shmmap.cached(m, **parameters)(function)
    arguments = () if "Later" in repr(function) else (3,)
    for _ in range(2):
        result = f(*arguments)
        assert (asyncio.run(result) if asyncio.iscoroutine(result) else result) == 6
    assert f.key_for(*arguments) in m and f.invalidate(*arguments)
