"""The results of one decorated function: looked up, computed and stored; see `cached`."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from . import generation
from .call_keys import CallKeys, NoKey
from .checks import Key, Value
from .errors import MapClosed, MapUnlinked, ShmMapError
from .locks import single_flight, task_flights
from .locks.keeping import Errors, Notes, Unreachable, keep, note
from .locks.task_flights import Wish
from .locks.waiting import deadline_of
from .map import ShmMap
from .system.mutex import Mark, Mutex

Args = tuple[Value, ...]
Named = dict[str, Value]
Packed = tuple[int, bytes]  # a key as it is stored
Part = tuple[Key, ...]  # of a key: see `CallKeys`
GONE: Errors = (MapUnlinked, MapClosed)


class CacheInfo(NamedTuple):
    """What calls of a decorated function came to, in this process.

    Attributes:
        hits: calls that were answered from the map, or by another one's computing.
        misses: calls that computed.
        uncached: how often the map could not be used, by reason: see `Stats`.
    """

    hits: int
    misses: int
    uncached: dict[str, int]


class Terms(NamedTuple):
    """What `cached` was told. See there."""

    ttl: float | None
    stale: float
    timeout: float | None
    is_strict: bool
    condition: Callable[[Value], object] | None


class _Call:
    """One call of the function, run at most once: its result may outlive the map it is for."""

    __slots__ = ("_args", "_function", "_kwargs", "_results", "is_running", "part")

    def __init__(self, function: Callable[..., Value], args: Args, kwargs: Named) -> None:
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._results: tuple[Value, ...] = ()
        self.part: Part = ()
        self.is_running = False  # also if it raised

    @property
    def arguments(self) -> tuple[Args, Named]:
        """What the function is called with."""
        return self._args, self._kwargs

    @property
    def has_run(self) -> bool:
        """Whether the function was called here, also if it raised."""
        return bool(self._results) or self.is_running

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


class Results:
    """See the module. `hits` and `misses` count calls."""

    def __init__(
        self, function: Callable[..., Value], m: ShmMap | Callable[[], ShmMap], keys: CallKeys,
        terms: Terms,
    ) -> None:
        self._function = function
        self._keys = keys
        self._terms = terms
        self.notes = Notes()
        self.hits = self.misses = 0
        self._raises: Errors = (Exception,) if terms.is_strict else ()
        self._open = None if isinstance(m, ShmMap) else m
        self._map = m if isinstance(m, ShmMap) else None
        self._opening = Mutex()
        self._flights: task_flights.Flights = weakref.WeakKeyDictionary()

    # -- the map ------------------------------------------------------------------------

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

    def _is_gone(self, m: ShmMap) -> bool:
        """Tell whether a map was unlinked, or its handle closed."""
        try:
            with m._inside():
                return False
        except GONE:
            return True

    def _map_for(self, call: _Call, gone: ShmMap | None = None) -> ShmMap | None:
        """Return the map for a call, in place of one that is gone; None: the call is computed
        without it, which was noted."""
        try:
            m = self.map() if gone is None else self._opened(gone)
        except MapClosed:  # a mistake in the program
            raise
        except ShmMapError as error:
            if self._raises:
                raise
            self.notes.count("no_map")
            self.notes.tell("no_map", (
                f"cached: {self._keys.label()[0]} has no map to keep its results in "
                f"({type(error).__name__}: {error}). It is computed each time; told once"
            ))
            return None
        if not call.part:
            try:
                call.part = self._keys.part_for(*call.arguments)
            except NoKey as error:
                if self._raises:
                    raise
                note(m, self.notes, "no_key", f"{error}. It is computed each time")
                return None
        return m

    def _key(self, m: ShmMap, part: Part) -> Key:
        """Return the whole key of a result. Raises Unreachable."""
        label = self._keys.label()
        try:
            return (*label, generation.generation_of(m, label), *part)
        except MapClosed:
            raise
        except ShmMapError as error:
            raise Unreachable from error

    def _shown(self, call: _Call) -> Key:
        """Return what a message calls a result by, whose generation is not known."""
        return (self._keys.label()[0], *call.part)

    # -- a call -------------------------------------------------------------------------

    def fetch(self, args: Args, kwargs: Named) -> Value:
        """Return the result, computing it if need be."""
        call = _Call(self._function, args, kwargs)
        try:
            value = self._found(call)
        finally:
            if call.has_run:
                self.misses += 1
        self._after(call)
        return value

    def _found(self, call: _Call) -> Value:
        """Return the result of a call. Where the map is gone, that is opened anew, if it can be."""
        m = self._map_for(call)
        if m is not None and self._open is not None:
            try:
                return self._look(m, call, self._raises or GONE)
            except GONE:
                if call.is_running:  # it is the function's own
                    raise
            if self._is_gone(m):
                m = self._map_for(call, m)
        return call.run() if m is None else self._look(m, call, self._raises)

    def _after(self, call: _Call) -> None:
        """Count a call that was answered."""
        m = self._map
        if not call.has_run:
            self.hits += 1
        elif m is not None and not m.closed:
            generation.renew(m, self._keys.label())

    def _look(self, m: ShmMap, call: _Call, raises: Errors) -> Value:
        """Return the result, found in the map or computed."""
        terms = self._terms
        try:
            key = self._key(m, call.part)
        except Unreachable as failed:
            single_flight.refuse_or_note(m, self.notes, self._shown(call), failed, raises)
            return call.run()
        return single_flight.get_or_set(
            m, key, call.run, terms.ttl, terms.stale, terms.timeout, self.notes, raises,
            terms.condition,
        )

    async def fetch_async(self, args: Args, kwargs: Named) -> Value:
        """Do the same for a coroutine function."""
        call = _Call(self._function, args, kwargs)
        try:
            value = await self._found_async(call)
        finally:
            if call.has_run:
                self.misses += 1
        self._after(call)
        return value

    async def _found_async(self, call: _Call) -> Value:
        """Do what `_found` does, for a coroutine function."""
        deadline = deadline_of(self._terms.timeout)
        m = self._map_for(call)
        if m is not None and self._open is not None:
            try:
                return await self._look_async(m, call, deadline, self._raises or GONE)
            except GONE:
                if call.is_running:
                    raise
            if self._is_gone(m):
                m = self._map_for(call, m)
        if m is None:
            return await call.run_async()
        return await self._look_async(m, call, deadline, self._raises)

    async def _look_async(
        self, m: ShmMap, call: _Call, deadline: float | None, raises: Errors
    ) -> Value:
        """Do the same for a coroutine function."""
        try:
            return await self._share(m, self._key(m, call.part), call, deadline, raises)
        except Unreachable as failed:  # before anything was computed
            single_flight.refuse_or_note(m, self.notes, self._shown(call), failed, raises)
        return await call.run_async()

    async def _share(
        self, m: ShmMap, key: Key, call: _Call, deadline: float | None, raises: Errors
    ) -> Value:
        """Return the result; of the tasks of this loop that miss it, one goes for it."""
        terms = self._terms
        wish = Wish(
            terms.ttl, terms.stale, terms.timeout, deadline, self.notes, raises, terms.condition
        )
        return await task_flights.share(m, key, self._flights, call.run_async, wish)

    # -- what the wrapper offers ----------------------------------------------------------

    def key_for(self, /, *args: Value, **kwargs: Value) -> Key:
        """Return the key of the result for these arguments."""
        part = self._keys.part_for(args, kwargs)
        label = self._keys.label()
        return self._on_the_map(lambda m: (*label, generation.generation_of(m, label), *part))

    def invalidate(self, /, *args: Value, **kwargs: Value) -> bool:
        """Forget the result for these arguments."""
        try:
            part = self._keys.part_for(args, kwargs)
        except NoKey:
            return False
        label = self._keys.label()
        return bool(self._on_the_map(
            lambda m: m.delete((*label, generation.generation_of(m, label), *part))
        ))

    def clear(self) -> None:
        """Forget all results."""
        self._on_the_map(lambda m: generation.clear(m, self._keys.label()))

    def info(self) -> CacheInfo:
        """Tell what calls came to."""
        return CacheInfo(self.hits, self.misses, self.notes.times())

    def _on_the_map(self, act: Callable[[ShmMap], Value]) -> Value:
        """Do something to the map; again if it was opened anew."""
        m = self.map()
        try:
            return act(m)
        except GONE:
            if self._open is None or not self._is_gone(m):
                raise
        return act(self._opened(m))

    def refresh(self, args: Args, kwargs: Named) -> Value:
        """Compute the result anew, and store it; meanwhile the old one is found."""
        call = _Call(self._function, args, kwargs)
        m, key = self._to_renew(call)
        self.misses += 1
        value = call.run()
        self._replace(m, key, value)
        return value

    async def refresh_async(self, args: Args, kwargs: Named) -> Value:
        """Do the same for a coroutine function."""
        call = _Call(self._function, args, kwargs)
        m, key = self._to_renew(call)
        self.misses += 1
        value = await call.run_async()
        self._replace(m, key, value)
        return value

    def _to_renew(self, call: _Call) -> tuple[ShmMap | None, Key]:
        """Return where the result of a call is to be stored; (None, ...): nowhere."""
        m = self._map_for(call)
        if m is not None and self._open is not None and self._is_gone(m):
            m = self._map_for(call, m)
        if m is None:
            return None, ()
        try:
            return m, self._key(m, call.part)
        except Unreachable as failed:
            single_flight.refuse_or_note(m, self.notes, self._shown(call), failed, self._raises)
            return None, ()

    def _replace(self, m: ShmMap | None, key: Key, value: Value) -> None:
        """Store a result in place of the former one."""
        condition = self._terms.condition
        if m is not None and (condition is None or condition(value)):
            life = single_flight.life_of(m, self._terms.ttl, self._terms.stale)
            keep(m, key, value, life, self.notes, self._raises)
            generation.renew(m, self._keys.label())
