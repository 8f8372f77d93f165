"""A map as the cache of cachetools' decorators."""

from __future__ import annotations

import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import shmmap

from . import upstream

cachetools = pytest.importorskip("cachetools")

from cachetools.keys import hashkey, typedkey  # noqa: E402

MAJOR = int(version("cachetools").partition(".")[0])
NO_KEY = "typed keys have classes in them, which are no keys of a map"
THE_SAME = "wants a copy of the cache to be another one; that of a map is the same map"
DOES_NOT_APPLY = {
    "FunctionTest.test_decorator_typed": NO_KEY,
    "MethodTest.test_decorator_typed": NO_KEY,
    "MethodTest.test_decorator_pickle": THE_SAME,
    "MethodTest.test_decorator_pickle_info": THE_SAME,
    "MethodTest.test_decorator_pickle_super": THE_SAME,
    "MethodTest.test_decorator_deepcopy_super": THE_SAME,
}

# cachetools' tests of its decorators, on maps as caches
SUITE = '''
import itertools, os, unittest
import pytest, shmmap
from tests.test_cached import DecoratorTestMixin
from tests.test_cachedmethod import MethodDecoratorTestMixin

numbers, maps = itertools.count(), []


def open_map(self, minsize, **_):
    maps.append(shmmap.ShmMap(f"suite-{os.getpid()}-{next(numbers)}", size="1MB"))
    return maps[-1]


@pytest.fixture(autouse=True)
def unlinked():
    yield
    while maps:
        maps[-1].unlink()
        maps.pop().close()


class FunctionTest(unittest.TestCase, DecoratorTestMixin):
    cache = open_map


class MethodTest(unittest.TestCase, MethodDecoratorTestMixin):
    cache = open_map
'''


def plain(*args: Any, **named: Any) -> Any:
    """Make a key of a call, of parts that a map takes: what the page says to write."""
    return "square", args, tuple(sorted(named.items()))


@pytest.fixture
def m(make: Any) -> Any:
    return make(on_full="evict")


@pytest.mark.skipif(MAJOR < 8, reason="keys are of a class of their own before cachetools 8")
def test_the_tests_of_cachetools(tmp_path: Path) -> None:
    folder = upstream.fetch("cachetools")
    suite, plugin = tmp_path / "test_on_maps.py", tmp_path / "no_plugin.py"
    suite.write_text(SUITE)
    plugin.touch()
    found = upstream.run(folder, [str(suite.with_suffix(""))], tmp_path / "report.xml", plugin,
                         "-o", f"pythonpath={folder}", f"--rootdir={folder}")
    upstream.compare(found, DOES_NOT_APPLY, passed=37)


@pytest.mark.parametrize("options", [
    {}, {"lock": threading.Lock()}, {"info": True}, {"lock": threading.Lock(), "info": True},
    {"condition": threading.Condition()},
], ids=str)
def test_with_a_key_of_plain_parts(m: Any, start: Any, options: Any) -> None:
    if "condition" in options and MAJOR < 6:
        pytest.skip("this cachetools has no condition=")
    calls: list[Any] = []

    @cachetools.cached(m, key=plain, **options)
    def square(n: int, *, plus: int = 0) -> int:
        calls.append(n)
        return n * n + plus

    child = start(lambda child: square(4, plus=1))
    assert child.result() == square(4, plus=1) == 17 and not calls
    assert [square(3), square(3), square(3, plus=1)] == [9, 9, 10] and calls == [3, 3]
    assert m["square", (3,), ()] == 9
    square.cache_clear()  # of all that is in the map
    assert len(m) == 0


def test_a_lock_of_the_map_does_not_keep_it_from_being_computed_twice(m: Any) -> None:
    """cachetools lets go of its lock while it computes. `shmmap.cached` does not."""
    @cachetools.cached(m, key=plain, lock=m.lock("square"))
    def square(n: int) -> int:
        again = m.lock("square")
        assert again.acquire(blocking=False)
        again.release()
        return n * n

    assert [square(3), square(3)] == [9, 9] and not m.lock("square").locked()


def test_methods(m: Any) -> None:
    class Page:
        def __init__(self, number: int) -> None:
            self.number, self.drawn = number, 0

        @cachetools.cachedmethod(lambda self: m, key=lambda self, *of: ("draw", self.number, of))
        def draw(self, size: str) -> str:
            self.drawn += 1
            return f"page {self.number}, {size}"

    first, same, other = Page(3), Page(3), Page(4)
    assert {first.draw("A4"), first.draw("A4"), same.draw("A4")} == {"page 3, A4"}
    assert other.draw("A4") == "page 4, A4"
    assert [first.drawn, same.drawn, other.drawn] == [1, 0, 1]


def test_keys_of_cachetools(m: Any) -> None:
    """What the plain `cached(cache=m)` does, with each version's keys."""
    @cachetools.cached(m)
    def square(n: int) -> int:
        return n * n

    if MAJOR >= 8:  # they are tuples
        assert [square(3), square(3), m[(3,)], hashkey(3)] == [9, 9, 9, (3,)]
    else:
        with pytest.raises(TypeError, match="_HashedTuple"):
            square(3)
    for key, call in ((hashkey, {"n": 3}), (typedkey, {"n": 3})):
        with pytest.raises(TypeError, match="a key must be"):
            cachetools.cached(m, key=key)(square.__wrapped__)(**call)


def test_what_the_map_cannot_keep(make: Any) -> None:
    m = make(size="300KB", shards=1)

    @cachetools.cached(m, key=plain)
    def text(length: int) -> str:
        return "x" * length

    assert len(text(10**6)) == 10**6 and len(m) == 0  # longer than any entry: a ValueError, too
    with pytest.raises(shmmap.MapFull):
        for length in range(10_000, 10_100):
            text(length)

    @shmmap.cached(m, prefix="text")
    def always(length: int) -> str:
        return "x" * length

    assert len(always(20_000)) == 20_000 and always.cache_info().uncached == {"full": 1}


def test_a_result_that_cannot_be_pickled(m: Any) -> None:
    functions = cachetools.cached(m, key=plain)(lambda n: lambda: n)
    with pytest.raises((AttributeError, TypeError), match="pickle"):
        functions(3)
    assert shmmap.cached(m, prefix="functions")(lambda n: lambda: n)(3)() == 3
