"""@cached: keys, functions and coroutines, what is shared and what is not."""

from __future__ import annotations

import asyncio
import functools
import math
import operator
import os
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

import shmmap


def plain(m: Any, **parameters: Any) -> tuple[Any, list[Any]]:
    """Decorate a function; give it and the list of its calls."""
    calls: list[Any] = []

    @shmmap.cached(m, **parameters)
    def function(*args: Any, **kwargs: Any) -> Any:
        """Say something."""
        calls.append((args, kwargs))
        return f"{args} {sorted(kwargs.items())}"

    return function, calls


def test_a_result_is_computed_once(make):
    f, calls = plain(make(), ttl=60)
    assert f(1, "a", x=2) == f(1, "a", x=2) == "(1, 'a') [('x', 2)]"
    assert len(calls) == 1
    assert f(1, "b", x=2) != f(1, "a", x=2)
    assert len(calls) == 2


def test_the_wrapper_is_like_the_function(make):
    f, calls = plain(make())
    assert f.__name__ == "function" and f.__doc__ == "Say something."
    assert f.__wrapped__(1) and f.__wrapped__(1) and len(calls) == 2


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
def test_what_is_no_key_needs_a_key_function(make, argument):
    f, calls = plain(make())
    with pytest.raises(TypeError, match="key="):
        f(argument)
    with pytest.raises(TypeError, match="key="):
        f(1, x=argument)
    assert not calls
    g, calls = plain(make(), key=lambda thing: "fixed")
    assert g(argument) == g(argument)
    assert len(calls) == 1 and g.key_for(argument) == "fixed"


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


@pytest.mark.parametrize(("name", "calls"), [
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
def test_however_arguments_are_passed_it_is_one_call(make, name, calls):
    function = shapes(make())[name]
    assert len({eval(f"f.key_for({call})", {"f": function}) for call in calls}) == 1


def test_a_parameter_may_have_any_name(make):
    @shmmap.cached(make())
    def f(self: int, m: int = 0, key: int = 0, args: int = 0, kwargs: int = 0) -> int:
        return self + m

    for call in (lambda g: g(self=5), lambda g: g(self=5, m=1, key=2, args=3, kwargs=4)):
        assert call(f) == call(f.__wrapped__)
        assert call(f.key_for)[1].endswith("<locals>.f") and call(f.invalidate)
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
    assert len(m) == 3 and f.invalidate(long) and len(m) == 2
    assert len(set(map(f.key_for, (long, long + "!", long.encode(), "word")))) == 4
    g = shmmap.cached(m, key=lambda text: text)(len)
    assert g(long) == g(long) == 250_000 and g("short") == 5 and m["short"] == 5


@pytest.mark.parametrize("awaited", [False, True])
def test_a_result_that_cannot_be_stored_reaches_its_caller(make, awaited):
    m = make()
    big = bytes(10**7)
    calls: list[int] = []

    def compute(n: int) -> bytes:
        calls.append(n)
        return big

    if awaited:
        @shmmap.cached(m)
        async def waited(n: int) -> bytes:
            return compute(n)

        f: Any = lambda n: asyncio.run(waited(n))  # noqa: E731
    else:
        f = shmmap.cached(m, key=lambda n: ("compute", n))(compute)
    with pytest.warns(shmmap.CacheWarning, match="EntryTooLarge"):
        assert f(1) is big
    assert f(1) is big and f(2) is big  # told once a function
    assert calls == [1, 1, 2] and m.stats().uncached == 3
    other = shmmap.cached(m, key=lambda n: ("another", n))(compute)
    with pytest.warns(shmmap.CacheWarning):
        other(1)


def test_tasks_that_wait_for_what_cannot_be_kept_compute_side_by_side(make):
    m = make()
    inside, most = [0], [0]

    @shmmap.cached(m)
    async def big(n: int) -> int:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        await asyncio.sleep(0.05)
        inside[0] -= 1
        return len(bytes(10**7)) * 0 or threading.Lock()  # type: ignore[return-value]

    async def many() -> None:
        await asyncio.gather(*[big(1) for _ in range(6)])

    with pytest.warns(shmmap.CacheWarning):
        asyncio.run(many())
    assert most[0] == 5


class Gone:
    """A class that is removed after an instance was stored."""


def test_a_result_that_cannot_be_unpickled_any_more_is_computed_anew(make, monkeypatch):
    m = make()
    f, calls = plain(m)
    m[f.key_for(1)] = Gone()
    monkeypatch.delitem(globals(), "Gone")
    with pytest.warns(shmmap.CacheWarning, match="cannot be read"):
        assert f(1) == "(1,) []"
    assert f(1) == "(1,) []" and len(calls) == 1


def test_a_method_needs_a_key_function(make):
    class Page:
        drawn = 0

        @shmmap.cached(make(), key=lambda page, number: ("page", number))
        def draw(self, number: int) -> int:
            self.drawn += 1
            return number

    page = Page()
    assert (page.draw(3), page.draw(3), page.drawn) == (3, 3, 1)


def test_invalidate(make):
    f, calls = plain(make())
    assert f.invalidate(1) is False
    f(1)
    assert f.invalidate(1) is True
    f(1)
    assert len(calls) == 2


def test_ttl_and_stale(make):
    m = make()
    f, calls = plain(m, ttl=10, stale=5)
    clock = m.attachment.clock
    clock.frozen_ns = 10**15
    try:
        f(1)
        assert m.ttl(f.key_for(1)) == 15
        clock.frozen_ns += 11 * 10**9
        f(1)
        assert len(calls) == 2
    finally:
        clock.frozen_ns = -1


def test_the_map_can_be_opened_at_the_first_use(make, name):
    m = make()
    opened: list[Any] = []

    def open_it() -> Any:
        opened.append(shmmap.ShmMap.attach(name))
        return opened[-1]

    f, calls = plain(open_it)
    assert not opened
    f(1), f(1), f(2)
    assert len(opened) == 1 and len(calls) == 2 and len(m) == 2
    opened[0].close()
    f(1)
    assert len(opened) == 2 and len(calls) == 2
    opened[1].close()


class Double:
    """An object that is called."""

    def __call__(self, n: int) -> int:
        return 2 * n


class DoubleLater:
    """An object that is called and awaited."""

    async def __call__(self, n: int) -> int:
        return 2 * n


NAMELESS = [
    lambda n: 2 * n, functools.partial(lambda factor, n: factor * n, 2), Double(),
    functools.partial(max, 6), functools.partial(DoubleLater(), 3),
]


@pytest.mark.parametrize("function", NAMELESS)
def test_what_has_no_name_needs_a_key_function(make, function):
    m = make()
    with pytest.raises(TypeError, match="key="):
        shmmap.cached(m)(function)
    f: Any = shmmap.cached(m, key=lambda *n: ("double", n))(function)
    arguments = () if "Later" in repr(function) else (3,)
    for _ in range(2):
        result = f(*arguments)
        assert (asyncio.run(result) if asyncio.iscoroutine(result) else result) == 6
    assert f.key_for(*arguments) in m and f.invalidate(*arguments)


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


def test_a_class_method_is_told_where_to_go(make):
    with pytest.raises(TypeError, match="@classmethod goes"):
        shmmap.cached(make())(classmethod(Double))  # type: ignore[arg-type]


@pytest.mark.parametrize("opener", [functools.partial(dict), dict, lambda *names: None])
def test_an_opener_must_open_a_map(opener):
    f, calls = plain(opener)
    with pytest.raises(TypeError, match="no ShmMap"):
        f(1)
    assert not calls


class Opener:
    """Opens a map anew each time; `keep`: only if there is none that is open."""

    def __init__(self, name: str, keep: bool = False) -> None:
        self.name = name
        self.keep = keep
        self.opened: list[Any] = []

    def __call__(self) -> Any:
        if not (self.keep and self.opened and not self.opened[-1].closed):
            time.sleep(0.01)  # so that threads which open at once would be seen
            self.opened.append(shmmap.ShmMap(self.name, size="1MB", sweep_interval=None))
        return self.opened[-1]


@pytest.fixture(params=[False, True])
def opener(name, request):
    found = Opener(name, request.param)
    yield found
    for handle in found.opened:
        handle.close()


def test_a_map_that_was_unlinked_is_opened_anew(opener, name):
    f, calls = plain(opener)
    f(1)
    shmmap.ShmMap.attach(name).unlink()
    f(1), f(1)
    assert len(calls) == 2 and len(opener.opened) == 2 and opener.opened[0].closed
    shmmap.ShmMap.attach(name).unlink()
    assert f.invalidate(1) is False and len(opener.opened) == 3
    f(1)
    assert f.invalidate(1) is True and len(calls) == 3


def test_a_map_that_is_unlinked_while_a_result_is_computed(opener, name):
    calls: list[int] = []

    @shmmap.cached(opener)
    def f(n: int) -> int:
        calls.append(n)
        shmmap.ShmMap.attach(name).unlink()
        return n

    @shmmap.cached(opener)
    async def g(n: int) -> int:
        calls.append(n)
        shmmap.ShmMap.attach(name).unlink()
        return n

    assert f(1) == f(1) == 1 and calls == [1]

    async def main() -> list[int]:
        return await asyncio.gather(*(g(2) for _ in range(3)))

    assert asyncio.run(main()) == [2, 2, 2] and calls == [1, 2]
    assert len(opener.opened) <= 4


def test_of_many_threads_one_opens_the_map_anew(opener, name):
    f, calls = plain(opener)
    for round in range(3):
        start = threading.Barrier(8)
        results: list[Any] = []

        def ask(start: threading.Barrier = start, results: list[Any] = results) -> None:
            start.wait(10)
            results.append(f(1))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == ["(1,) []"] * 8
        assert len(opener.opened) == len(calls) == round + 1
        shmmap.ShmMap.attach(name).unlink()


def test_a_map_that_is_given_itself_is_not_opened_anew(make):
    m = make()
    f, _ = plain(m)
    m.unlink()
    for call in (f, f.invalidate):
        with pytest.raises(shmmap.MapUnlinked):
            call(1)


def test_an_unlinked_map_of_the_functions_own_is_its_error(opener, make):
    calls: list[int] = []

    @shmmap.cached(opener)
    def f(n: int) -> None:
        calls.append(n)
        raise shmmap.MapUnlinked("its own")

    with pytest.raises(shmmap.MapUnlinked, match="its own"):
        f(1)
    assert calls == [1] and len(opener.opened) == 1


def test_an_opener_that_keeps_a_dead_handle_is_told(make):
    m = make()
    f, calls = plain(lambda: m)
    f(1)
    m.unlink()
    with pytest.raises(shmmap.MapClosed, match="open the map each time"):
        f(1)
    assert len(calls) == 1


@pytest.mark.parametrize("thing", [None, "demo", 5])
def test_what_is_no_map_is_refused(thing):
    with pytest.raises(TypeError, match="ShmMap"):
        shmmap.cached(thing)


def test_errors_pass_and_are_not_kept(make):
    m = make()

    @shmmap.cached(m)
    def fails() -> None:
        raise ArithmeticError

    for _ in range(2):
        with pytest.raises(ArithmeticError):
            fails()
    assert len(m) == 0 and m.attachment.locks.count() == 0


def test_a_function_that_calls_itself(make):
    m = make()

    @shmmap.cached(m)
    def fib(n: int) -> int:
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert fib(30) == 832040

    @shmmap.cached(m)
    def endless(n: int) -> int:
        return endless(n)

    with pytest.raises(shmmap.Reentered):
        endless(1)


@pytest.mark.parametrize(("timeout", "error"), [(-1, ValueError), ("1", TypeError)])
def test_what_is_no_timeout_is_refused(make, timeout, error):
    with pytest.raises(error, match="timeout"):
        shmmap.cached(make(), timeout=timeout)


def test_computings_that_need_each_other_end_by_their_timeout(make):
    m = make()
    both = threading.Barrier(2)
    errors: list[shmmap.LockTimeout] = []

    @shmmap.cached(m, timeout=0.3)
    def needs_the_other(n: int) -> int:
        both.wait(10)
        return needs_the_other(1 - n)

    def ask(n: int) -> None:
        with suppress(threading.BrokenBarrierError):
            try:
                needs_the_other(n)
            except shmmap.LockTimeout as error:
                errors.append(error)
                both.abort()  # for who now gets the other's lock and computes once more

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors and "not free within 0.3 s" in str(errors[0]) and str(os.getpid()) in str(errors)
    assert m.attachment.locks.count() == 0


# -- coroutines -------------------------------------------------------------------------------


def slow(m: Any, seconds: float = 0.05, **parameters: Any) -> tuple[Any, list[Any]]:
    """Decorate a coroutine function; give it and the list of its calls."""
    calls: list[Any] = []

    @shmmap.cached(m, **parameters)
    async def function(n: int) -> int:
        calls.append(n)
        await asyncio.sleep(seconds)
        if n < 0:
            raise ArithmeticError(n)
        return n * 2

    return function, calls


def test_tasks_of_a_loop_share_one_computing(make):
    m = make()
    f, calls = slow(m)

    async def main() -> list[int]:
        return await asyncio.gather(*(f(n % 3) for n in range(60)))

    assert asyncio.run(main()) == [n % 3 * 2 for n in range(60)]
    assert sorted(calls) == [0, 1, 2]
    assert asyncio.run(f(1)) == 2
    assert len(calls) == 3 and m.attachment.locks.count() == 0


def test_it_stays_a_coroutine_function(make):
    f, _ = slow(make())
    assert asyncio.iscoroutinefunction(f) and f.key_for(1) and f.invalidate(1) is False


def test_an_error_reaches_who_computed_and_the_next_task_tries(make):
    f, calls = slow(make(), 0.01)

    async def main() -> list[Any]:
        return await asyncio.gather(*(f(-1) for _ in range(3)), return_exceptions=True)

    assert [type(result) for result in asyncio.run(main())] == [ArithmeticError] * 3
    assert len(calls) == 3


def test_a_cancelled_leader_is_replaced(make):
    m = make()
    f, calls = slow(m, 0.2)

    async def main() -> int:
        leader, follower = asyncio.ensure_future(f(1)), asyncio.ensure_future(f(1))
        await asyncio.sleep(0.05)
        leader.cancel()
        result: int = await follower
        assert leader.cancelled()
        return result

    assert asyncio.run(main()) == 2
    assert len(calls) == 2 and m.attachment.locks.count() == 0


def test_a_cancelled_follower_harms_nobody(make):
    f, calls = slow(make(), 0.1)

    async def main() -> list[int]:
        tasks = [asyncio.ensure_future(f(1)) for _ in range(3)]
        await asyncio.sleep(0.03)
        tasks[1].cancel()
        return [await tasks[0], await tasks[2]]

    assert asyncio.run(main()) == [2, 2] and len(calls) == 1


def test_a_task_that_waits_for_itself_is_told(make):
    m = make()

    @shmmap.cached(m)
    async def endless(n: int) -> Any:
        return await endless(n)

    async def main() -> None:
        with pytest.raises(shmmap.Reentered):
            await endless(1)

    asyncio.run(main())


@pytest.mark.parametrize("way", ["gather", "wait_for", "create_task", "to_thread", "other"])
def test_a_task_within_the_computing_that_waits_for_it_is_told(make, way):
    m = make()

    @shmmap.cached(m, key=lambda n: n)
    async def other(n: int) -> Any:
        return await endless(n)

    @shmmap.cached(m, key=lambda n: n)
    async def endless(n: int) -> Any:
        if way == "gather":
            return await asyncio.gather(endless(n))
        if way == "wait_for":
            return await asyncio.wait_for(endless(n), 100)
        if way == "create_task":
            return await asyncio.create_task(endless(n))
        if way == "to_thread":
            return await asyncio.to_thread(asyncio.run, endless(n))
        return await other(n)

    async def main() -> None:
        with pytest.raises(shmmap.Reentered, match="__wrapped__"):
            await asyncio.wait_for(endless(1), 20)

    asyncio.run(main())
    assert m.attachment.locks.count() == 0


def test_tasks_within_a_computing_may_need_other_keys(make):
    m = make()

    @shmmap.cached(m)
    async def fib(n: int) -> int:
        return n if n < 2 else sum(await asyncio.gather(fib(n - 1), fib(n - 2)))

    assert asyncio.run(fib(30)) == 832040


def test_a_task_that_outlives_the_computing_may_ask_for_its_key(make):
    m = make()
    later: list[asyncio.Task[int]] = []
    calls: list[int] = []

    @shmmap.cached(m)
    async def f(n: int) -> int:
        async def ask_again() -> int:
            await over.wait()
            return await f(n)

        calls.append(n)
        if not later:
            later.append(asyncio.create_task(ask_again()))
        await asyncio.sleep(0.05)
        return n

    async def main() -> None:
        assert await f(1) == 1
        f.invalidate(1)
        computing = asyncio.ensure_future(f(1))  # another one, which it may wait for
        await asyncio.sleep(0)
        over.set()
        assert await later[0] == await computing == 1
        f.invalidate(1)
        assert await asyncio.gather(f(1), f(1)) == [1, 1]

    over = asyncio.Event()
    asyncio.run(main())
    assert calls == [1, 1, 1]


def test_a_plain_call_in_the_computing_thread_is_told(make):
    """It would wait for a task that cannot go on while it waits."""
    m = make()

    @shmmap.cached(m, key=lambda: "one key")
    def plain_one() -> int:
        return 1

    @shmmap.cached(m, key=lambda: "one key")
    async def coroutine() -> int:
        with pytest.raises(shmmap.Reentered):
            plain_one()
        return 2

    assert asyncio.run(coroutine()) == 2


def test_the_loop_goes_on_while_another_process_computes(make, start):
    m = make()
    f, calls = slow(m, 0.0)

    def work(child: Any) -> Any:
        def factory() -> str:
            child.tell("computing")
            child.hear()
            return f"by {os.getpid()}"

        return m.get_or_set(f.key_for(7), factory)

    async def main() -> tuple[Any, int, float]:
        task = asyncio.ensure_future(f(7))
        ticks, longest, last = 0, 0.0, time.monotonic()
        end = last + 0.5
        while not task.done():
            await asyncio.sleep(0.005)
            now = time.monotonic()
            ticks, longest, last = ticks + 1, max(longest, now - last), now
            if end and now > end:
                child.tell("end")
                end = 0.0
        return await task, ticks, longest

    child = start(work)
    assert child.hear() == "computing"
    value, ticks, longest = asyncio.run(main())
    assert value == child.result() == f"by {child.pid}" and not calls
    assert ticks > 20 and longest < 0.3
    child.reap()


def test_stale_results_do_not_wait(make):
    m = make()
    f, calls = slow(m, 0.05, ttl=10, stale=5)
    clock = m.attachment.clock
    clock.frozen_ns = 10**15
    try:
        asyncio.run(f(1))
        m.set(f.key_for(1), "old", ttl=4)  # past its time

        async def main() -> list[Any]:
            return await asyncio.gather(*(f(1) for _ in range(4)))

        assert asyncio.run(main()) == [2, "old", "old", "old"]
        assert len(calls) == 2
    finally:
        clock.frozen_ns = -1


def test_a_coroutine_waits_for_another_process_no_longer_than_its_timeout(make, start):
    m = make()
    f, calls = slow(m, 0.0, timeout=0.2)

    def work(child: Any) -> Any:
        def factory() -> str:
            child.tell("computing")
            child.hear()
            return "computed"

        return m.get_or_set(f.key_for(7), factory)

    child = start(work)
    assert child.hear() == "computing"
    begin = time.monotonic()
    with pytest.raises(shmmap.LockTimeout, match=f"0.2 s; held by process {child.pid}"):
        asyncio.run(f(7))
    assert 0.2 <= time.monotonic() - begin < 5 and not calls
    child.tell("end")
    assert child.result() == asyncio.run(f(7)) == "computed"
    child.reap()


def test_coroutines_that_need_each_other_end_by_their_timeout(make):
    m = make()

    @shmmap.cached(m, timeout=0.2)
    async def needs_the_other(n: int) -> Any:
        await asyncio.sleep(0.01)
        return await needs_the_other(1 - n)

    async def main() -> list[Any]:
        return await asyncio.gather(
            needs_the_other(0), needs_the_other(1), return_exceptions=True
        )

    errors = asyncio.run(main())
    assert any(isinstance(error, shmmap.LockTimeout) for error in errors)
    assert any("the computing of" in str(error) and str(os.getpid()) in str(error)
               for error in errors)
    assert m.attachment.locks.count() == 0


def test_more_keys_at_once_than_the_lock_table_holds(make):
    m = make()
    f, calls = slow(m, 0.1)

    async def main() -> list[int]:
        return await asyncio.gather(*(f(n) for n in range(600)))

    assert asyncio.run(main()) == [n * 2 for n in range(600)]
    assert sorted(calls) == list(range(600))
    assert m.attachment.locks.count() == 0 and len(m) == 600


def test_a_stale_result_is_given_if_the_lock_table_is_full(make):
    m = make()
    f, calls = slow(m, 0.1, ttl=10, stale=5)
    m.set(f.key_for(0), "old", ttl=4)  # past its time

    async def main() -> Any:
        others = [asyncio.ensure_future(f(n)) for n in range(1, 600)]
        await asyncio.sleep(0)
        result = await f(0)
        await asyncio.gather(*others)
        return result

    assert asyncio.run(main()) == "old" and 0 not in calls


def test_loops_in_several_threads(make):
    m = make()
    f, calls = slow(m, 0.1)
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(asyncio.run(f(1))))
               for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [2] * 4 and len(calls) == 1


@pytest.mark.parametrize("far", [3e9, float("inf"), 10**40])
def test_a_stale_time_that_is_too_long_is_told_its_limit(make, far):
    m = make()
    with pytest.raises(ValueError, match="less than 3e9"):
        m.get_or_set("a", lambda: 1, ttl=5, stale=far)
    with pytest.raises(ValueError, match="less than 3e9"):
        shmmap.ShmMap(m.name, lock_timeout=far)
