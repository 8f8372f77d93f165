"""The end of a `with`, which no signal handler can leave out.

A handler may raise before the first line of an `__exit__` that is written in Python, or as the
`__enter__` returns: then no end is called. `contextlib.contextmanager` leaves its generator where
it yields then, its `finally` not run, for as long as the exception is kept: the traceback has the
frame of `__exit__`, that frame has the manager, and the manager has the generator.

So here the interpreter's own reference to the exit of a `with` is all that keeps what the block
holds. Frames get weak references, so a traceback keeps nothing. Where the end is not called, what
is held goes with the statement, as the exception leaves it: a generator is closed, which begins
its `finally` by a call into C.

An end that is called runs as ever. One that runs since it was not called cannot raise: what a
second handler raises in it reaches `sys.unraisablehook`.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
Given = TypeVar("Given")


class Exit(functools.partial):  # type: ignore[type-arg]
    """The exit of one `with`: calls a function with a weak reference to what the block holds, and
    keeps that. No variable of the function may have it: the frame would."""

    held: object


def exit_of(function: Callable[..., Any], held: object) -> Callable[..., Any]:
    """Make the exit of a `with` that holds `held`."""
    made = Exit(function, weakref.ref(held))
    made.held = held
    return made


class Block:
    """What a function that is a `block` returns: for one `with`, which keeps it by its exit. It
    does not go into an ExitStack, which would keep it."""

    __slots__ = ("__enter__", "__exit__")

    def __init__(self, generator: Iterator[Any]) -> None:
        self.__enter__ = functools.partial(_begin, weakref.ref(generator))
        self.__exit__ = exit_of(_end, generator)


def block(
    function: Callable[P, Iterator[Given]]
) -> Callable[P, AbstractContextManager[Given]]:
    """Decorate a generator function as `contextlib.contextmanager` does; see the module."""

    @functools.wraps(function)
    def make(*args: P.args, **keywords: P.kwargs) -> AbstractContextManager[Given]:
        return cast(AbstractContextManager[Given], Block(function(*args, **keywords)))

    return make


def _begin(held: Any) -> Any:
    return next(held())


def _end(held: Any, kind: Any, error: Any, trace: Any) -> bool:
    """End the block: as contextlib does, so that what the body raised passes unchanged."""
    if kind is None:
        for _ in held():
            raise RuntimeError("a block yields once")
        return False
    try:
        held().throw(error)
    except StopIteration as end:  # what the body raised was dealt with
        return end is not error
    except BaseException as found:
        if found is error or (  # a generator cannot pass a StopIteration on
            isinstance(error, StopIteration) and found.__cause__ is error
        ):
            error.__traceback__ = trace
            return False
        raise
    raise RuntimeError("a block yields once")
