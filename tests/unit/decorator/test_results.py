"""@cached: a result is computed once, kept for its time, and no error and nothing unstorable is."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from typing import Any

import pytest

import shmmap

from .functions import plain


def test_a_result_is_computed_once(make):
    f, calls = plain(make(), ttl=60)
    assert f(1, "a", x=2) == f(1, "a", x=2) == "(1, 'a') [('x', 2)]"
    assert len(calls) == 1
    assert f(1, "b", x=2) != f(1, "a", x=2)
    assert len(calls) == 2


@pytest.mark.parametrize("awaited", [False, True])
def test_a_result_that_cannot_be_stored_reaches_its_caller(make, awaited, caplog):
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
    assert f(1) is big
    assert f(1) is big and f(2) is big
    assert calls == [1, 1, 2] and m.stats().uncached == {"too_large": 3}
    assert len(caplog.records) == 1 and "EntryTooLarge" in caplog.text  # told once a function
    assert caplog.records[0].name == "shmmap" and caplog.records[0].levelname == "WARNING"
    assert awaited or caplog.records[0].pathname == __file__, "who called"
    other = shmmap.cached(m, key=lambda n: ("another", n))(compute)
    other(1)
    assert len(caplog.records) == 2
    strict: Any = shmmap.cached(m, prefix="strict", strict=True)(compute)
    with pytest.raises(shmmap.EntryTooLarge):
        strict(1)


class Gone:
    """A class that is removed after an instance was stored."""


def test_a_result_that_cannot_be_unpickled_any_more_is_computed_anew(make, monkeypatch, caplog):
    m = make()
    f, calls = plain(m)
    m[f.key_for(1)] = Gone()
    monkeypatch.delitem(globals(), "Gone")
    assert f(1) == f(1) == "(1,) []" and len(calls) == 1
    assert "cannot be unpickled" in caplog.text and m.stats().uncached == {"unreadable": 1}


def test_invalidate(make):
    f, calls = plain(make())
    assert f.invalidate(1) is False
    f(1)
    assert f.invalidate(1) is True
    f(1)
    assert len(calls) == 2


def test_ttl_and_stale(make, freeze):
    m = make()
    f, calls = plain(m, ttl=10, stale=5)
    clock = freeze(m)
    f(1)
    assert m.ttl(f.key_for(1)) == 15
    clock.advance(11)
    f(1)
    assert len(calls) == 2


def test_errors_pass_and_are_not_kept(make):
    m = make()

    @shmmap.cached(m)
    def fails() -> None:
        raise ArithmeticError

    for _ in range(2):
        with pytest.raises(ArithmeticError):
            fails()
    assert len(m) == 1 and m.attachment.locks.count() == 0  # the generation
    assert fails.cache_info() == (0, 2, {})


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
