"""`@cached(m, ttl=60)`: keep a function's results in a map, for every process on the machine."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, Protocol, TypeVar

from .call_keys import CallKeys, shortened
from .checks import Key, Value
from .errors import MapClosed, MapUnlinked, ShmMapError
from .locks import single_flight, task_flights
from .locks.keeping import Notes
from .locks.task_flights import Wish
from .locks.waiting import deadline_of
from .map import ShmMap
from .operations._writes_cy import DEFAULT
from .system.mutex import Mark, Mutex

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Args = tuple[Value, ...]
Named = dict[str, Value]


class Cached(Protocol[P, R_co]):
    """A function with a cache: call it as before.

    Attributes:
        __wrapped__: the function without the cache.
    """

    __wrapped__: Callable[..., Value]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return the cached result for these arguments, computing it if there is none."""

    def key_for(self, *args: P.args, **kwargs: P.kwargs) -> Key:
        """Return the key of the result for these arguments."""

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the result for these arguments; tell whether there was one."""


def cached(
    m: ShmMap | Callable[[], ShmMap],
    ttl: float | None = DEFAULT,
    key: Callable[..., Key] | None = None,
    stale: float = 0,
    timeout: float | None = None,
) -> Callable[[Callable[P, R]], Cached[P, R]]:
    """Keep a function's results in a map: of all workers that need one, one computes it.

    For functions and coroutine functions; a coroutine that waits for another worker lets its
    event loop go on, and the tasks of one loop compute a key once.

    Args:
        m: the map, or a function that opens it, called at the first use: for modules that are
            imported before their workers are forked. It is called again when that map was closed
            or unlinked; a map that is given itself raises MapClosed or MapUnlinked from then on.
        ttl: seconds that a result is kept; the map's default if not given, None: for ever.
        key: gives the key from the arguments. By default it is made of the function's module and
            name and of the arguments, which must be str, bytes, int, float, bool, None or tuples
            of these. As for a dict, 1, 1.0 and True are one argument; by position, by name or by
            default is the same. A key of more than 1,024 bytes is replaced by a digest of it.
            Functions whose module and name are the same share their results: give key=, with a
            name of your own in the key, for functions that another function makes with other
            variables each time, for methods of several objects, and for scripts that share a map
            (all are module `__main__`).
            Lambdas, partials and objects with `__call__` have no name, and need it.
        stale: see ShmMap.get_or_set.
        timeout: seconds that a call waits for what another one is computing; None: for ever.

    Raises:
        TypeError: what is decorated is a generator function, or needs key=; or there is no map:
            `@cached` without one. (At a call) an argument cannot be part of a key: give key=.
        LockTimeout: (at a call) another one was still computing it after `timeout`.
        Reentered: (at a call) computing the value asks for that very value. Of coroutines, tasks
            that are started while a value is computed count as part of that.

    A result that cannot be stored (too large, no room, no pickle) reaches its caller all the same,
    and one that cannot be unpickled any more is computed anew: with one CacheWarning a function;
    `stats().uncached` counts.

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
    _check_opener(m)
    deadline_of(timeout)  # to refuse what is none

    # more than one argument, so that a call of what a mere `@cached` made is told as such
    def decorate(function: Value = None, *others: object, **named: object) -> Value:
        if others or named or not callable(function):
            raise TypeError(
                f"cached: there is no function to decorate: {function!r} was given. If it was "
                "decorated with @cached alone, write @cached(m) with the map; @classmethod goes "
                "above @cached(...)"
            )
        is_coroutine = _check_function(function, key)
        store = _Store(function, m, ttl, key, stale, timeout)
        wrapper: Value
        if is_coroutine:
            @functools.wraps(function)
            async def wrapper(*args: Value, **kwargs: Value) -> Value:
                return await store.fetch_async(args, kwargs)
        else:
            @functools.wraps(function)
            def wrapper(*args: Value, **kwargs: Value) -> Value:
                return store.fetch(args, kwargs)
        wrapper.key_for = store.key_for
        wrapper.invalidate = store.invalidate
        return wrapper

    return decorate


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


def _check_function(function: object, key: object) -> bool:
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
    if key is None and (
        isinstance(function, functools.partial) or not isinstance(name, str) or "<lambda>" in name
    ):
        raise TypeError(
            f"cached: {function!r} has no name of its own to make keys of, and would share its "
            "results with others: give cached(..., key=lambda ...: (\"a name\", ...)), which makes "
            "the key from the arguments, or decorate a function made by def"
        )
    return any(inspect.iscoroutinefunction(code) for code in codes)


class _Call:
    """One call of the function, run at most once: its result may outlive the map it is for."""

    __slots__ = ("_args", "_function", "_kwargs", "_results", "is_running")

    def __init__(self, function: Callable[..., Value], args: Args, kwargs: Named) -> None:
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._results: tuple[Value, ...] = ()
        self.is_running = False  # also if it raised

    def run(self) -> Value:
        """Return the result."""
        if not self._results:
            self.is_running = True
            self._results = (self._function(*self._args, **self._kwargs),)
            self.is_running = False
        return self._results[0]

    async def run_async(self) -> Value:
        """Return the result of a coroutine function."""
        if not self._results:
            self.is_running = True
            self._results = (await self._function(*self._args, **self._kwargs),)
            self.is_running = False
        return self._results[0]


class _Store:
    """What one decorated function needs."""

    def __init__(
        self, function: Callable[..., Value], m: ShmMap | Callable[[], ShmMap],
        ttl: float | None, key: Callable[..., Key] | None, stale: float, timeout: float | None,
    ) -> None:
        self._function = function
        self._key = key
        self._call_keys = CallKeys(function) if key is None else None
        self._notes = Notes()
        self._ttl = ttl
        self._stale = stale
        self._timeout = timeout
        self._open = None if isinstance(m, ShmMap) else m
        self._map = m if isinstance(m, ShmMap) else None
        self._opening = Mutex()
        self._flights: task_flights.Flights = weakref.WeakKeyDictionary()

    def map(self) -> ShmMap:
        """Return the map, opening it if need be."""
        m = self._map
        if m is None or (self._open is not None and m.closed):
            return self._opened(m)
        return m

    def _opened(self, old: ShmMap | None) -> ShmMap:
        """Open the map in place of `old`; of the threads that want to, one does."""
        mark = Mark()
        try:
            self._opening.acquire(mark)
            if self._map is old:
                new = self._open_anew()
                if new is old and not new.closed:  # the opener keeps it: until it is closed?
                    new.close()
                    new = self._open_anew()
                if new.closed:
                    raise MapClosed(
                        f"map {new.name!r}: the function that opens it for cached() gave a handle "
                        "that is closed, perhaps because the map was unlinked. Have that "
                        "function keep no handle, but open the map each time: it is called again "
                        "only when it is needed"
                    )
                self._map = new
                if old is not None:
                    with suppress(ShmMapError):
                        old.close()
            return self._map  # type: ignore[return-value]  # it is there now
        finally:
            mark.clear()

    def _open_anew(self) -> ShmMap:
        """Call the opener. Caller holds the lock of opening."""
        m: object = self._open()  # type: ignore[misc]  # there is one
        if not isinstance(m, ShmMap):
            raise TypeError(
                f"cached: {self._open!r} is to open the map and gave {m!r}, no ShmMap. If it is "
                "what you wanted to decorate, write @cached(m), not @cached"
            )
        return m

    def _may_try_again(self, m: ShmMap, call: _Call | None) -> bool:
        """Tell whether an error came of a map that can be opened anew, not of the function."""
        if self._open is None or (call is not None and call.is_running):
            return False
        try:
            with m._inside():
                return False
        except (MapUnlinked, MapClosed):
            return True

    def key_for(self, /, *args: Key, **kwargs: Key) -> Key:
        """Make the key for these arguments."""
        if self._call_keys is not None:
            return self._call_keys.key_for(args, kwargs)
        assert self._key is not None
        return shortened(self._key(*args, **kwargs), (b"shmmap.cached",))

    def invalidate(self, /, *args: Key, **kwargs: Key) -> bool:
        """Forget the result for these arguments."""
        m, key = self.map(), self.key_for(*args, **kwargs)
        try:
            return m.delete(key)
        except (MapUnlinked, MapClosed):
            if not self._may_try_again(m, None):
                raise
        return self._opened(m).delete(key)

    def fetch(self, args: Args, kwargs: Named) -> Value:
        """Return the result, computing it if need be."""
        m, key = self.map(), self.key_for(*args, **kwargs)
        call = _Call(self._function, args, kwargs)
        try:
            return single_flight.get_or_set(
                m, key, call.run, self._ttl, self._stale, self._timeout, self._notes
            )
        except (MapUnlinked, MapClosed):
            if not self._may_try_again(m, call):
                raise
        return single_flight.get_or_set(
            self._opened(m), key, call.run, self._ttl, self._stale, self._timeout, self._notes
        )

    async def fetch_async(self, args: Args, kwargs: Named) -> Value:
        """Do the same for a coroutine function."""
        m, key = self.map(), self.key_for(*args, **kwargs)
        call = _Call(self._function, args, kwargs)
        deadline = deadline_of(self._timeout)
        try:
            return await self._share(m, key, call, deadline)
        except (MapUnlinked, MapClosed):
            if not self._may_try_again(m, call):
                raise
        return await self._share(self._opened(m), key, call, deadline)

    async def _share(self, m: ShmMap, key: Key, call: _Call, deadline: float | None) -> Value:
        """Return the result; of the tasks of this loop that miss it, one goes for it."""
        wish = Wish(self._ttl, self._stale, self._timeout, deadline, self._notes)
        return await task_flights.share(m, key, self._flights, call.run_async, wish)
