"""@cached: a map that is opened at the first use, and anew once it was unlinked."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from typing import Any

import pytest

import shmmap

from .functions import plain


def test_the_map_can_be_opened_at_the_first_use(make, name):
    m = make()
    opened: list[Any] = []

    def open_it() -> Any:
        opened.append(shmmap.ShmMap.attach(name))
        return opened[-1]

    f, calls = plain(open_it)
    assert not opened
    f(1), f(1), f(2)
    assert len(opened) == 1 and len(calls) == 2 and len(m) == 3  # one is the generation
    opened[0].close()
    f(1)
    assert len(opened) == 2 and len(calls) == 2
    opened[1].close()


@pytest.mark.parametrize("opener", [functools.partial(dict), dict, lambda *names: None])
def test_an_opener_must_open_a_map(opener):
    f, calls = plain(opener)
    with pytest.raises(TypeError, match="no ShmMap"):
        f(1)
    assert not calls


class Opener:
    """Opens a map anew each time; `keep`: only if there is none that is open."""

    def __init__(self, name: str, keep: bool = False, **parameters: Any) -> None:
        self.name = name
        self.keep = keep
        self.parameters = {"size": "1MB", "sweep_interval": None, **parameters}
        self.opened: list[Any] = []

    def __call__(self) -> Any:
        if not (self.keep and self.opened and not self.opened[-1].closed):
            time.sleep(0.01)  # so that threads which open at once would be seen
            self.opened.append(shmmap.ShmMap(self.name, **self.parameters))
        return self.opened[-1]


@pytest.fixture(params=[False, True])
def opener(name, request):
    found = Opener(name, request.param, on_unlinked="raise")
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


def test_a_handle_that_reopens_is_not_opened_anew(name):
    opener = Opener(name)
    f, calls = plain(opener)
    f(1)
    shmmap.ShmMap.attach(name).unlink()
    f(1), f(1)
    assert len(calls) == 2
    shmmap.ShmMap.attach(name).unlink()
    assert f.invalidate(1) is False
    f(1)
    assert f.invalidate(1) is True and len(calls) == 3

    @shmmap.cached(opener)
    def g(n: int) -> int:
        if not n:
            shmmap.ShmMap.attach(name).unlink()
        calls.append(n)
        return n

    assert g(0) == 0 and g(1) == g(1) == 1 and calls[3:] == [0, 1]
    assert len(opener.opened) == 2 and f.cache_info().uncached == {}
    for handle in opener.opened:
        handle.close()


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


def test_a_map_that_is_given_itself_is_not_opened_anew(make, caplog):
    m = make(on_unlinked="raise")
    f, calls = plain(m)
    g, _ = plain(m, strict=True)
    m.unlink()
    assert f(1) == f(1) == "(1,) []" and len(calls) == 2
    assert f.cache_info().uncached == {"unlinked": 2} and len(caplog.records) == 1
    for call in (g, f.invalidate, f.cache_clear):
        with pytest.raises(shmmap.MapUnlinked):
            call(*[1] * (call != f.cache_clear))


def test_a_closed_map_is_told(make):
    m = make()
    f, calls = plain(m)
    m.close()
    for call in (f, f.refresh, f.invalidate):
        with pytest.raises(shmmap.MapClosed):
            call(1)
    assert not calls


def test_a_map_that_cannot_be_opened_does_not_fail_the_call(name, caplog):
    def open_it() -> Any:
        return shmmap.ShmMap.attach(name)

    f, calls = plain(open_it)
    strict, _ = plain(open_it, strict=True)
    assert f(1) == f(1) == f.refresh(1) and len(calls) == 3
    assert f.cache_info() == (0, 3, {"no_map": 3})
    assert len(caplog.records) == 1 and "MapNotFound" in caplog.text and name in caplog.text
    with pytest.raises(shmmap.MapNotFound):
        strict(1)
    with shmmap.ShmMap(name, "1MB") as m:
        f(1), f(1)
        assert f.cache_info().hits == 1
        m.unlink()


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
