"""`@cached(m, ttl=60)`: keep a function's results in a map, for every process on the machine."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

from .call_keys import CallKeys
from .checks import Key, Value, flag, seconds
from .locks.waiting import deadline_of
from .map import ShmMap
from .operations._writes_cy import DEFAULT
from .results import CacheInfo, Results, Terms
from .values._keys_cy import pack

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Cached(Protocol[P, R_co]):
    """A function with a cache: call it as before.

    Of a method, give these the object first: `Page.draw.invalidate(page, 3)`; of a class method the
    class.

    Attributes:
        __wrapped__: the function without the cache.
    """

    __wrapped__: Callable[..., Value]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return the cached result for these arguments, computing it if there is none."""

    def __get__(self, instance: object, owner: object = None) -> Cached[..., R_co]:
        """Return the method of an object."""

    def key_for(self, *args: P.args, **kwargs: P.kwargs) -> Key:
        """Return the key of the result for these arguments, as it is now: `cache_clear` changes
        the keys of all."""

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the result for these arguments; tell whether there was one."""

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Compute the result for these arguments anew, store and return it. Meanwhile callers get
        the former one. To be awaited where the function is."""

    def cache_clear(self) -> None:
        """Forget all results of this function, for every worker, in one step. Then removes what
        was stored: O(entries of the map)."""

    def cache_info(self) -> CacheInfo:
        """Return (hits, misses, uncached) of the calls in this process."""


def cached(
    m: ShmMap | Callable[[], ShmMap],
    ttl: float | None = DEFAULT,
    key: Callable[..., Key] | None = None,
    stale: float = 0,
    timeout: float | None = None,
    *,
    version: Key = None,
    prefix: str | None = None,
    condition: Callable[[Value], object] | None = None,
    strict: bool = False,
) -> Callable[[Callable[P, R]], Cached[P, R]]:
    """Keep a function's results in a map: of all workers that need one, one computes it.

    For functions, methods and coroutine functions; a coroutine that waits for another worker lets
    its event loop go on, and the tasks of one loop compute a key once.

    Args:
        m: the map, or a function that opens it, called at the first use: for modules that are
            imported before their workers are forked. It is called again when that map was closed
            or unlinked; a map that is given itself raises MapClosed from then on.
        ttl: seconds that a result is kept; the map's default if not given, None: for ever.
        key: gives, from the arguments, what stands for them in the key of the result. By default
            that is the arguments themselves, which must be of the types that keys have (str,
            numbers, dates, tuples of these and so on), classes, or objects whose class has a
            method `__shmmap_key__` that returns one of these. As for a dict, 1, 1.0 and True are
            one argument; by position, by name or by default is the same. What has more than 1,024
            bytes is replaced by a digest.
        stale: see ShmMap.get_or_set.
        timeout: seconds that a call waits for what another one is computing; None: for ever.
        version: part of the key: give another one when the function's results change their meaning
            or shape, so that old and new workers do not meet.
        prefix: stands in the key in place of the function's module and name. Functions that agree
            in these share their results: give prefix= (or key=, with what differs) to functions
            that another function makes with other variables each time, and in scripts that share a
            map (all are module `__main__`). Lambdas, partials and objects with `__call__` have no
            name, and need prefix= or key=.
        condition: called with a result; if it returns something false, that is not stored.
        strict: True: raise why a result cannot be stored, looked up, or has no key.

    Raises:
        TypeError: what is decorated is a generator function, or needs prefix=; or there is no map:
            `@cached` without one.
        LockTimeout: (at a call) another one was still computing it after `timeout`.
        MapClosed: (at a call) the map that was given is closed.
        Reentered: (at a call) computing the value asks for that very value. Of coroutines, tasks
            that are started while a value is computed count as part of that.

    The map does not fail a call: see ShmMap.get_or_set. An argument that cannot be part of a key
    has the call computed each time, and so has a map that cannot be opened. The logger "shmmap"
    tells of each reason once a function; `cache_info().uncached` and `stats().uncached` count.

    A function may call others that are cached, and itself with other arguments. But where two
    computings need each other's results, or several in a ring, they wait for each other, each in
    its own thread, task or process; nothing but `timeout` ends that.

    The wrapper has the methods of `shmmap.decorator.Cached`: `invalidate(...)`, `refresh(...)` and
    `key_for(...)`, called as the function is, `cache_clear()`, `cache_info()`; and `__wrapped__`.

    >>> with shmmap.ShmMap("doctest", size="1MB", ephemeral=True) as m:
    ...     @shmmap.cached(m, ttl=60)
    ...     def square(n):
    ...         print("computing")
    ...         return n * n
    ...     square(3), square(n=3), square.invalidate(3)
    computing
    (9, 9, True)
    """
    _check_opener(m)
    deadline_of(timeout)  # to refuse what is none
    _check_parts(key, version, prefix, condition)
    terms = Terms(ttl, seconds(stale, "stale"), timeout, flag(strict, "strict"), condition)

    # more than one argument, so that a call of what a mere `@cached` made is told as such
    def decorate(function: Value = None, *others: object, **named: object) -> Value:
        if isinstance(function, classmethod):
            return classmethod(decorate(function.__func__))
        if others or named or not callable(function):
            raise TypeError(
                f"cached: there is no function to decorate: {function!r} was given. If it was "
                "decorated with @cached alone, write @cached(m) with the map"
            )
        is_coroutine = check_function(function, key, prefix)
        results = Results(function, m, CallKeys(function, key, version, prefix), terms)
        return _wrapper_of(function, results, is_coroutine)

    return decorate


def _wrapper_of(function: Callable[..., Value], results: Results, is_coroutine: bool) -> Value:
    """Return what is called in place of a function: a function too, so that a class makes methods
    of it, and everybody knows what is to be awaited."""
    wrapper: Value
    refresh: Value
    if is_coroutine:
        @functools.wraps(function)
        async def wrapper(*args: Value, **kwargs: Value) -> Value:
            return await results.fetch_async(args, kwargs)

        async def refresh(*args: Value, **kwargs: Value) -> Value:
            return await results.refresh_async(args, kwargs)
    else:
        @functools.wraps(function)
        def wrapper(*args: Value, **kwargs: Value) -> Value:
            return results.fetch(args, kwargs)

        def refresh(*args: Value, **kwargs: Value) -> Value:
            return results.refresh(args, kwargs)
    wrapper.key_for = results.key_for
    wrapper.invalidate = results.invalidate
    wrapper.refresh = refresh
    wrapper.cache_clear = results.clear
    wrapper.cache_info = results.info
    return wrapper


def _check_parts(key: object, version: Key, prefix: object, condition: object) -> None:
    """Refuse what cannot be part of a key, or make one."""
    for name, made in (("key", key), ("condition", condition)):
        if made is not None and not callable(made):
            raise TypeError(f"cached: {name} must be a function, not {type(made).__name__}")
    if prefix is not None and not isinstance(prefix, str):
        raise TypeError(f"cached: prefix must be a str, not {type(prefix).__name__}")
    try:
        pack((prefix, version))
    except TypeError as error:
        raise TypeError(f"cached: version={version!r} cannot be part of a key: {error}") from None


def _check_opener(m: Value) -> None:
    """Refuse what is neither a map nor opens one, such as the function of a mere `@cached`."""
    if isinstance(m, ShmMap):
        return
    is_opener = callable(m) and not inspect.iscoroutinefunction(m)
    if is_opener:
        try:
            inspect.signature(m).bind()
        except TypeError:  # it needs arguments
            is_opener = False
        except ValueError:  # it is written in C, and does not say
            pass
    if not is_opener:
        raise TypeError(
            "cached: give a ShmMap, or a function that opens one and can be called without "
            f"arguments, not {m!r}. To decorate a function write @cached(m), not @cached"
        )


def check_function(function: object, key: object, prefix: object) -> bool:
    """Refuse what cannot be cached; tell whether it is to be awaited."""
    inner = function
    while isinstance(inner, (functools.partial, staticmethod)):
        inner = inner.func if isinstance(inner, functools.partial) else inner.__func__
    codes = (inner, getattr(type(inner), "__call__", None))  # noqa: B004  # what calling it runs
    if any(inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code) for code in codes):
        raise TypeError(
            f"cached: {function!r} is a generator function: what it yields cannot be stored. "
            "Have a function make a list of it, and decorate that"
        )
    name = getattr(function, "__qualname__", None)
    if key is None and prefix is None and (
        isinstance(function, functools.partial) or not isinstance(name, str) or "<lambda>" in name
    ):
        raise TypeError(
            f"cached: {function!r} has no name of its own to make keys of, and would share its "
            'results with others: give cached(..., prefix="a name"), or key=lambda ...: ("a name", '
            "...), which makes the key from the arguments, or decorate a function made by def"
        )
    return any(inspect.iscoroutinefunction(code) for code in codes)
