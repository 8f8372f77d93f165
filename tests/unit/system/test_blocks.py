"""Blocks: they do what contextlib's do, and end where those do not."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from shmmap.system.blocks import block

from ...support.exact_signals import Raised, raising, send


def noting(make: Callable[..., Any], deeds: list[str], signal_in: str = "") -> Any:
    """Make a block that notes when it begins and ends."""

    @make
    def noted() -> Iterator[str]:
        deeds.append("begins")
        try:
            if signal_in == "begin":
                _ = -send  # `next` in `__enter__` returns before anything looks for it
            yield "given"
        finally:
            deeds.append("ends")

    return noted


def broken_off(manager: Any, signal_in: str, fails: bool) -> None:
    with manager() as given:
        assert given == "given"
        if signal_in == "body" and fails:
            try:
                raise ValueError
            finally:
                _ = -send
        if signal_in == "body":
            _ = -send


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("signal_in", ["begin", "body"])
@pytest.mark.parametrize("make", [block, contextmanager])
def test_it_ends_with_its_statement_though_the_exception_is_kept(make, signal_in, fails):
    deeds: list[str] = []
    kept = []
    with raising():
        try:
            broken_off(noting(make, deeds, signal_in), signal_in, fails)
        except Raised as error:
            kept.append(error)
            frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
            gc.collect()
            ended = list(deeds)
    assert kept and "handler" in frames
    if make is block:
        assert ended == ["begins", "ends"]
    elif not fails:  # Python 3.10 looks at other places
        assert ended == ["begins"]
    kept.clear()
    assert deeds == ["begins", "ends"]


def failing(make: Callable[..., Any], error: BaseException) -> list[object]:
    """Tell what comes of an error in the body."""
    deeds: list[str] = []
    try:
        with noting(make, deeds)():
            raise error
    except BaseException as found:
        names = [frame.name for frame in traceback.extract_tb(found.__traceback__)]
        return [found is error, found.__cause__, found.__context__, names, deeds]
    return [deeds]


@pytest.mark.parametrize("kind", [ValueError, StopIteration, RuntimeError, KeyboardInterrupt,
                                  GeneratorExit, StopAsyncIteration])
def test_what_the_body_raises_passes_as_through_contextlibs(kind):
    assert failing(block, kind("a")) == failing(contextmanager, kind("a"))
    assert failing(block, kind("a"))[0] is True


@pytest.mark.parametrize("make", [block, contextmanager])
def test_it_may_pass_over_or_exchange_what_the_body_raises(make):
    @make
    def exchanging() -> Iterator[None]:
        try:
            yield
        except ValueError:
            pass
        except KeyError:
            raise IndexError from None

    with exchanging():
        raise ValueError
    with pytest.raises(IndexError), exchanging():
        raise KeyError
    with exchanging():
        pass


@pytest.mark.parametrize("make", [block, contextmanager])
@pytest.mark.parametrize("fails", [False, True])
def test_it_yields_once(make, fails):
    @make
    def twice() -> Iterator[None]:
        with suppress(ValueError):
            yield
        yield

    with pytest.raises(RuntimeError), twice():
        if fails:
            raise ValueError


def test_what_its_end_raises_is_raised():
    @block
    def ending() -> Iterator[None]:
        yield
        raise KeyError("end")

    with pytest.raises(KeyError, match="end"), ending():
        pass


def test_one_that_is_never_entered_does_nothing():
    deeds: list[str] = []
    noting(block, deeds)()
    assert deeds == []


def test_it_keeps_its_functions_name_and_words():
    @block
    def named(given: int) -> Iterator[int]:
        """Say this."""
        yield given

    assert (named.__name__, named.__doc__) == ("named", "Say this.")
    with named(3) as found:
        assert found == 3
