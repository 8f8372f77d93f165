"""`@cached(m, ttl=60)`: keep a function's results in a map, for every process on the machine."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, ParamSpec, Protocol, TypeVar

from . import flights
from ._keys_cy import pack
from ._reads_cy import MISSING
from ._writes_cy import DEFAULT
from .errors import LockTimeout, Reentered
from .locks import describe_holder, flight_key
from .map import ShmMap
from .turns import deadline_of

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Cached(Protocol[P, R_co]):
    """A function with a cache: call it as before.

    Attributes:
        __wrapped__: the function without the cache.
    """

    __wrapped__: Callable[..., Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Give the cached result for these arguments, computing it if there is none."""

    def key_for(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Give the key of the result for these arguments."""

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the result for these arguments; tell whether there was one."""


def cached(
    m: ShmMap | Callable[[], ShmMap],
    ttl: float | None = DEFAULT,
    key: Callable[..., Any] | None = None,
    stale: float = 0,
    timeout: float | None = None,
) -> Callable[[Callable[P, R]], Cached[P, R]]:
    """Keep a function's results in a map: of all workers that need one, one computes it.

    For functions and coroutine functions; a coroutine that waits for another worker lets its
    event loop go on, and the tasks of one loop compute a key once.

    Args:
        m: the map, or a function that opens it, called at the first use: for modules that are
            imported before their workers are forked.
        ttl: seconds that a result is kept; the map's default if not given, None: for ever.
        key: gives the key from the arguments. By default it is made of the function's module and
            name and of the arguments, which must be str, bytes, int, float, bool, None or tuples
            of these. As for a dict, 1, 1.0 and True are one argument.
        stale: see ShmMap.get_or_set.
        timeout: seconds that a call waits for what another one is computing; None: for ever.

    Raises:
        TypeError: (at a call) an argument cannot be part of a key: give key=.
        LockTimeout: (at a call) another one was still computing it after `timeout`.
        Reentered: (at a call) computing the value asks for that very value. Of coroutines, tasks
            that are started while a value is computed count as part of that.

    A function may call others that are cached, and itself with other arguments. But where two
    computings need each other's results, or several in a ring, they wait for each other, each in
    its own thread, task or process; nothing but `timeout` ends that.

    The wrapper has `key_for(...)` and `invalidate(...)`, both called as the function is, and
    `__wrapped__`. What a call may raise beside what the function does: see ShmMap.get_or_set.

    >>> with shmmap.ShmMap("doctest", size="1MB", ephemeral=True) as m:
    ...     @shmmap.cached(m, ttl=60)
    ...     def square(n):
    ...         print("computing")
    ...         return n * n
    ...     square(3), square(3), square.invalidate(3)
    computing
    (9, 9, True)
    """
    if not isinstance(m, ShmMap) and not callable(m):
        raise TypeError(f"cached: give a ShmMap or a function that opens one, not {m!r}")

    deadline_of(timeout)  # to refuse what is none

    def decorate(function: Callable[P, R]) -> Cached[P, R]:
        store = _Store(function, m, ttl, key, stale, timeout)
        wrapper: Any
        if inspect.iscoroutinefunction(function):
            @functools.wraps(function)
            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                return await store.fetch_async(args, kwargs)
        else:
            @functools.wraps(function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                return store.fetch(args, kwargs)
        wrapper.key_for = store.key_for
        wrapper.invalidate = store.invalidate
        return wrapper  # type: ignore[no-any-return]

    return decorate


class _Flight:
    """The computing of a key in one event loop, and what those wait for who need it too."""

    def __init__(self, place: tuple[str, Any]) -> None:
        self.place = place  # map and key
        self.landed = asyncio.get_running_loop().create_future()
        self.pid = os.getpid()


# The computings that this code is a part of. A context variable, since tasks inherit it: most
# computings wait for the tasks that they start.
_within: ContextVar[tuple[_Flight, ...]] = ContextVar("shmmap_within", default=())


def _refuse_own(m: Any, key: Any, place: tuple[str, Any]) -> None:
    """Refuse to wait for a computing that this code is a part of, unless that is over, or goes on
    in the process that forked this one."""
    for flight in _within.get():
        if flight.place == place and not flight.landed.done() and flight.pid == os.getpid():
            raise Reentered(
                f"map {m.name!r}, cached: the computing of {key!r} asks for {key!r}, in its own "
                "task or in one that it started: it would wait for itself. Call the function "
                "without its cache there (__wrapped__); a task that the computing does not wait "
                "for may be started in a context of its own (contextvars.Context().run(...))"
            )


class _Store:
    """What one decorated function needs."""

    def __init__(
        self, function: Callable[..., Any], m: Any, ttl: Any, key: Any, stale: float,
        timeout: float | None,
    ) -> None:
        self._function = function
        self._key = key
        self._ttl = ttl
        self._stale = stale
        self._timeout = timeout
        self._open = None if isinstance(m, ShmMap) else m
        self._map: Any = m if isinstance(m, ShmMap) else None
        self._loops: weakref.WeakKeyDictionary[Any, dict[Any, _Flight]] = (
            weakref.WeakKeyDictionary()
        )

    def map(self) -> Any:
        """Give the map, opening it if need be."""
        if self._open is not None and (self._map is None or self._map.closed):
            self._map = self._open()
        return self._map

    def key_for(self, *args: Any, **kwargs: Any) -> Any:
        """Make the key for these arguments."""
        function = self._function
        if self._key is not None:
            return self._key(*args, **kwargs)
        key: tuple[Any, ...] = (function.__module__, function.__qualname__, args)
        if kwargs:
            key += (tuple(sorted(kwargs.items())),)
        try:
            pack(key)
        except TypeError as error:
            raise TypeError(
                f"cached: the arguments of {function.__qualname__} cannot be made into a key "
                f"({error}): give cached(..., key=lambda ...: ...), which makes one of them"
            ) from None
        return key

    def invalidate(self, *args: Any, **kwargs: Any) -> bool:
        """Forget the result for these arguments."""
        return self.map().delete(self.key_for(*args, **kwargs))  # type: ignore[no-any-return]

    def fetch(self, args: Any, kwargs: Any) -> Any:
        """Give the result, computing it if need be."""
        return flights.get_or_set(
            self.map(), self.key_for(*args, **kwargs),
            functools.partial(self._function, *args, **kwargs), self._ttl, self._stale,
            self._timeout,
        )

    async def fetch_async(self, args: Any, kwargs: Any) -> Any:
        """Give the result; of the tasks of this loop that miss it, one goes for it."""
        m, key = self.map(), self.key_for(*args, **kwargs)
        identity = pack(key)
        deadline = deadline_of(self._timeout)
        place = m.name, identity
        here = self._loops.setdefault(asyncio.get_running_loop(), {})
        while True:
            value, fresh = flights.look_up(m, key, self._stale)
            flight = here.get(identity)
            if fresh or (value is not MISSING and flight is not None):
                return value
            if value is MISSING:
                _refuse_own(m, key, place)
            if flight is None:
                break
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                what = f"the computing of {key!r}"
                raise LockTimeout(describe_holder(m, what, flight_key(key), self._timeout))
            await asyncio.wait((flight.landed,), timeout=left)  # if we are cancelled, it is not
        flight = here[identity] = _Flight(place)
        before = _within.set((*_within.get(), flight))
        try:
            return await flights.get_or_set_async(
                m, key, functools.partial(self._function, *args, **kwargs), self._ttl, self._stale,
                self._timeout, deadline,
            )
        finally:
            del here[identity]
            flight.landed.set_result(None)
            with suppress(ValueError):  # this is the end of a coroutine that was just dropped
                _within.reset(before)
