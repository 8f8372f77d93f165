"""@cached: what can be decorated, with what, and what is refused as it is decorated."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest

import shmmap

from .functions import Double, DoubleLater, plain, slow


def test_the_wrapper_is_like_the_function(make):
    f, calls = plain(make())
    assert f.__name__ == "function" and f.__doc__ == "Say something."
    assert f.__wrapped__(1) and f.__wrapped__(1) and len(calls) == 2


def test_objects_and_static_methods_that_are_awaited(make):
    class Page:
        @shmmap.cached(make(), key=lambda n: n)
        @staticmethod
        async def draw(n: int) -> int:
            return n

    double: Any = shmmap.cached(make(), key=lambda n: ("double", n))(DoubleLater())
    assert asyncio.iscoroutinefunction(double)
    assert [asyncio.run(double(3)) for _ in range(2)] == [6, 6]
    assert [asyncio.run(Page.draw(3)) for _ in range(2)] == [3, 3]


def generator() -> Any:
    yield 1


async def async_generator() -> Any:
    yield 1


@pytest.mark.parametrize("function", [
    generator, async_generator, functools.partial(generator), functools.partial(async_generator),
])
def test_generators_are_refused(make, function):
    with pytest.raises(TypeError, match="list"):
        shmmap.cached(make(), key=lambda: "k")(function)


async def no_opener() -> Any:
    return None


def test_a_decorator_without_a_map_is_told():
    with pytest.raises(TypeError, match=r"write @cached\(m\)"):
        shmmap.cached(lambda n: n)
    with pytest.raises(TypeError, match=r"write @cached\(m\)"):
        shmmap.cached(no_opener)  # type: ignore[arg-type]
    bare: Any = shmmap.cached(lambda n=1, **others: n)
    for call in (bare, lambda: bare(3), lambda: bare(generator, 1), lambda: bare(n=1)):
        with pytest.raises(TypeError, match=r"write @cached\(m\)"):
            call()
    wrapper = bare(test_a_decorator_without_a_map_is_told)  # looks like a decoration
    with pytest.raises(TypeError, match=r"gave 1, no ShmMap.*write @cached\(m\)"):
        wrapper()


def test_a_class_method_of_what_has_no_name_is_told(make):
    with pytest.raises(TypeError, match="no name of its own"):
        shmmap.cached(make())(classmethod(Double()))  # type: ignore[arg-type]


@pytest.mark.parametrize(("given", "match"), [
    ({"key": 5}, "key must be"), ({"condition": "no"}, "condition must be"),
    ({"prefix": 5}, "prefix must be"), ({"version": [1]}, "version="), ({"strict": 1}, "strict"),
])
def test_what_is_no_parameter_is_refused(make, given, match):
    with pytest.raises(TypeError, match=match):
        shmmap.cached(make(), **given)


@pytest.mark.parametrize("thing", [None, "demo", 5])
def test_what_is_no_map_is_refused(thing):
    with pytest.raises(TypeError, match="ShmMap"):
        shmmap.cached(thing)


@pytest.mark.parametrize(("timeout", "error"), [(-1, ValueError), ("1", TypeError)])
def test_what_is_no_timeout_is_refused(make, timeout, error):
    with pytest.raises(error, match="timeout"):
        shmmap.cached(make(), timeout=timeout)


def test_it_stays_a_coroutine_function(make):
    f, _ = slow(make())
    assert asyncio.iscoroutinefunction(f) and f.key_for(1) and f.invalidate(1) is False


@pytest.mark.parametrize("far", [3e9, float("inf"), 10**40])
def test_a_stale_time_that_is_too_long_is_told_its_limit(make, far):
    m = make()
    with pytest.raises(ValueError, match="less than 3e9"):
        m.get_or_set("a", lambda: 1, ttl=5, stale=far)
    with pytest.raises(ValueError, match="less than 3e9"):
        shmmap.ShmMap(m.name, lock_timeout=far)
