"""A cache backend for Django.

    CACHES = {"default": {
        "BACKEND": "shmmap.contrib.django.ShmMapCache",
        "LOCATION": "pages",
        "OPTIONS": {"size": "64MB"},
    }}
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation

from ..checks import Value
from ..errors import LockTimeout, ShmMapError
from ..in_asyncio import in_thread
from ..locks.keeping import notes_of
from ..map import ShmMap
from . import part
from .part import NOTHING, Part, check_options, instead_of_ttl, open_to_evict

Done = TypeVar("Done")
PATIENCE_S = 10.0  # for a value that another worker computes; then this one computes it too
OPTIONS = part.OPTIONS - {"ttl"}
_INSTEAD = {
    **instead_of_ttl("say TIMEOUT, beside OPTIONS"),
    "MAX_ENTRIES": "a map is bounded in bytes: say size, or capacity (entries) with value_size "
                   "(bytes that a typical value has)",
    "CULL_FREQUENCY": "a full map evicts what is used least, as much as a new entry needs",
}
_handles: dict[tuple[str, str], ShmMap] = {}  # by name and options


class ShmMapCache(BaseCache):  # type: ignore[misc]  # Django has no types
    """Django's interface on a map that every process of the machine shares.

    Args:
        location: LOCATION, the map's name.
        params: the rest of the alias. OPTIONS has the options of ShmMap, with on_full="evict" as
            the default, and `strict`: True: raise what the map raises.

    Aliases with the same LOCATION share the map, those with the same KEY_PREFIX, too, its entries:
    `clear` removes those of its KEY_PREFIX. `add`, `incr` and `decr` are one step, for all
    processes. `map` is the handle, one for all threads of a process.
    """

    # Django has a backend for each thread and calls its `close` when a request ends. BaseCache's
    # does nothing, which is right: to open the map again would cost more than most requests use it.

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        options = dict(params.get("OPTIONS") or {})
        where = _where(params.get("OPTIONS"))
        try:
            check_options(where, options, OPTIONS, named="LOCATION, beside OPTIONS,",
                          instead=_INSTEAD)
        except TypeError as error:
            raise ImproperlyConfigured(str(error)) from None
        if not (location and isinstance(location, str)):  # a default would mix all projects
            raise ImproperlyConfigured(
                f"{where}: LOCATION, beside it, must be the map's name, not {location!r}"
            )
        strict = bool(options.pop("strict", False))
        try:
            m = _handle(location, options)
        except ShmMapError:
            raise
        except (TypeError, ValueError) as error:
            raise ImproperlyConfigured(f"{where}, LOCATION {location!r}: {error}") from error
        self._part = Part(m, str(self.key_prefix), strict=strict)
        self.map = m

    def __repr__(self) -> str:
        return self._part.described(self)

    def _key(self, key: Any, version: int | None) -> Any:
        return self.make_and_validate_key(key, version=version)

    def _ttl(self, timeout: Any) -> Any:
        """Return what a timeout is for the map: for both, None is no end, and 0 or less at once."""
        return self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout

    def get(self, key: Any, default: Value = None, version: int | None = None) -> Value:
        """Return the value of `key`; default: there is none."""
        return self._part.get(self._key(key, version), default)

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Value]:
        """Return {key: value} of those that are there."""
        found = {key: self.get(key, NOTHING, version) for key in keys}
        return {key: value for key, value in found.items() if value is not NOTHING}

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """Tell whether there is an entry."""
        return self._part.has(self._key(key, version))

    def set(
        self, key: Any, value: Value, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> None:
        """Write. Where there is no room for it, no older value stays either."""
        self._part.set(self._key(key, version), value, self._ttl(timeout))

    def set_many(
        self, data: Mapping[Any, Value], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """Write every item; return the keys of those that were not written."""
        ttl = self._ttl(timeout)
        return [key for key, value in data.items()
                if not self._part.set(self._key(key, version), value, ttl)]

    def add(
        self, key: Any, value: Value, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Write where there is no entry, in one step; tell whether it was written."""
        return self._part.add(self._key(key, version), value, self._ttl(timeout))

    def touch(
        self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Give an entry another timeout; tell whether there is one."""
        return self._part.touch(self._key(key, version), self._ttl(timeout))

    def delete(self, key: Any, version: int | None = None) -> bool:
        """Remove an entry; tell whether there was one."""
        return self._part.delete(self._key(key, version))

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Add to a number, in one step, and return the sum; the entry keeps its deadline.

        Raises:
            ValueError: there is none, or the map cannot be used just now.
            TypeError: what is there is no number.
        """
        try:
            total: int | None = self._part.incr(self._key(key, version), delta, create=False)
        except KeyError:
            total = None
        if total is None:
            raise ValueError(f"Key {key!r} not found")
        return total

    def get_or_set(
        self, key: Any, default: Value, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> Value:
        """Return the value of `key`; if there is none, write and return `default`, or what it
        returns: of all workers that miss it at once, one calls it, the others wait for the value,
        `PATIENCE_S` at most."""
        if not callable(default):
            return super().get_or_set(key, default, timeout, version)
        called: list[int] = []

        def compute() -> Value:
            called.append(self._unpickled())
            return default()

        try:
            value = self.map.get_or_set(
                self._part.key(self._key(key, version)), compute, self._ttl(timeout),
                timeout=PATIENCE_S, strict=self._part.strict,
            )
        except LockTimeout:
            if called or self._part.strict:
                raise
            return default()
        if called and self._unpickled() > called[-1]:
            self.add(key, value, timeout, version)  # raises why
        return value

    def _unpickled(self) -> int:
        """Return how many values could not be pickled, which the map's get_or_set only counts."""
        m: Any = self.map
        return notes_of(m).times().get("not_picklable", 0)

    def clear(self) -> None:
        """Remove every entry of this KEY_PREFIX. O(entries of the map)."""
        self._part.clear()

    def delete_prefix(self, prefix: str, version: int | None = None) -> int:
        """Remove the entries of one version whose keys begin so; count them. O(entries of the map).

        Raises:
            ValueError: KEY_FUNCTION does not put the key at the end, as Django's own does.
        """
        start = self._key(prefix, version)
        if self.make_key(f"{prefix}?", version) != f"{start}?":
            raise ValueError(f"delete_prefix({prefix!r}): KEY_FUNCTION must put the key at the end")
        try:
            keys = list(self._part.keys())
        except ShmMapError as error:
            return int(self._part.missed(error, prefix, 0))
        return sum(self._part.delete(key) for key in keys if str(key).startswith(start))

    # -- for coroutines -------------------------------------------------------------------
    # An operation takes microseconds and waits for nobody, so it is done at once: BaseCache would
    # hand it to a thread, which takes ten times as long. For a thread is what reads the whole map,
    # and a queryset, which asks the database when it is pickled, as Django allows there only.

    async def _write(self, act: Callable[..., Done], *given: Any) -> Done:
        try:
            return act(*given)
        except SynchronousOnlyOperation:
            done: Done = await sync_to_async(act)(*given)
            return done

    async def aget(self, key: Any, default: Value = None, version: int | None = None) -> Value:
        """Do `get`."""
        return self.get(key, default, version)

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Value]:
        """Do `get_many`."""
        return self.get_many(keys, version)

    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        """Do `has_key`."""
        return self.has_key(key, version)

    async def aset(
        self, key: Any, value: Value, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> None:
        """Do `set`."""
        await self._write(self.set, key, value, timeout, version)

    async def aset_many(
        self, data: Mapping[Any, Value], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """Do `set_many`."""
        return await self._write(self.set_many, data, timeout, version)

    async def aadd(
        self, key: Any, value: Value, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Do `add`."""
        return await self._write(self.add, key, value, timeout, version)

    async def atouch(
        self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Do `touch`."""
        return self.touch(key, timeout, version)

    async def adelete(self, key: Any, version: int | None = None) -> bool:
        """Do `delete`."""
        return self.delete(key, version)

    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """Do `delete_many`."""
        self.delete_many(keys, version)

    async def aincr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Do `incr`."""
        return self.incr(key, delta, version)

    async def aget_or_set(
        self, key: Any, default: Value, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> Value:
        """Do `get_or_set`; the event loop goes on while another worker or task computes the value.
        `default` can be a coroutine function, too."""
        if not callable(default):
            return await super().aget_or_set(key, default, timeout, version)
        called: list[int] = []
        made: list[Value] = []

        async def compute() -> Value:
            called.append(self._unpickled())
            value = default()
            made.append(await value if inspect.isawaitable(value) else value)
            return made[-1]

        try:
            value = await self.map.aget_or_set(
                self._part.key(self._key(key, version)), compute, self._ttl(timeout),
                timeout=PATIENCE_S, strict=self._part.strict,
            )
        except LockTimeout:
            if called or self._part.strict:
                raise
            return await compute()
        except SynchronousOnlyOperation:  # of a queryset that is pickled, with `strict`
            if not made:
                raise
            value = made[-1]
            called[-1] = -1
        if called and self._unpickled() > called[-1]:
            await sync_to_async(self.add)(key, value, timeout, version)
        return value

    async def aclear(self) -> None:
        """Do `clear`, in a thread."""
        await in_thread(self.clear)

    async def adelete_prefix(self, prefix: str, version: int | None = None) -> int:
        """Do `delete_prefix`, in a thread."""
        return await in_thread(self.delete_prefix, prefix, version)


def _handle(name: str, options: dict[str, Any]) -> ShmMap:
    """Return this process's handle on a map, opened the first time. Without a lock, which a child
    that is forked meanwhile would find held: of two threads that open it, one closes its own."""
    known = (name, repr(sorted(options.items())))
    m = _handles.get(known)
    if m is not None and not m.closed:
        return m
    made = open_to_evict(name, options)
    if m is not None:
        _handles.pop(known, None)
    m = _handles.setdefault(known, made)
    if m is not made:
        made.close()
    return m


def _where(options: object) -> str:
    """Return where the settings have these OPTIONS, as Python says it."""
    if options is not None and settings.configured:
        for alias, said in settings.CACHES.items():
            if said.get("OPTIONS") is options:
                return f"CACHES[{alias!r}]['OPTIONS']"
    return "CACHES: an alias's OPTIONS"
