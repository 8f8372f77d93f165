"""A cache for aiocache.

    cache = ShmMapCache(name="pages", size="64MB")

    @cached(ttl=60, cache=ShmMapCache, name="pages", size="64MB")
    async def page(number): ...
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable
from typing import Any

from aiocache import AIOCACHE_CACHES
from aiocache.base import BaseCache
from aiocache.serializers import NullSerializer

from ..checks import Key, Value
from ..errors import ShmMapError
from ..map import ShmMap
from ..operations.changes import DELETE
from .part import Part, check_options

_TURN = 500  # entries that are looked at before the event loop has its turn


class ShmMapCache(BaseCache):  # type: ignore[misc]  # aiocache has no types
    """aiocache's interface on a map that every process of the machine shares.

    Args:
        name: the map's name ("aiocache"), or a handle on it.
        serializer: of aiocache's; default: none, the map stores and pickles values itself.
        plugins, namespace, key_builder: as aiocache has them.
        ttl: seconds that an entry lives; None: the map's ttl, which is none if not given there.
        timeout: seconds; None (default): no operation is cancelled, as they take microseconds and
            wait for nothing.
        prefix: shares the map with caches of other prefixes.
        strict: True: raise what the map raises.
        options: those of ShmMap, where `name` is a name.

    `add`, `increment`, and the check of `OptimisticLock` are one step, for all processes.
    """

    NAME = "shmmap"

    def __init__(
        self, name: ShmMap | str = "aiocache", *, serializer: Any = None, plugins: Any = None,
        namespace: str | None = None, key_builder: Any = None, timeout: float | None = None,
        ttl: float | None = None, prefix: Key = None, strict: bool = False, **options: Any,
    ) -> None:
        check_options("ShmMapCache", options, named="name")
        super().__init__(
            serializer=serializer or NullSerializer(), plugins=plugins, namespace=namespace,
            key_builder=key_builder, timeout=timeout, ttl=ttl,
        )
        self._part = Part(name, prefix, strict=strict, **options)
        self.map = self._part.map
        if ttl is None:
            self.ttl = self.map.default_ttl

    def __repr__(self) -> str:
        return self._part.described(self)

    @classmethod
    def parse_uri_path(cls, path: str) -> dict[str, str]:
        """Return what the path of "shmmap:///pages?size=64MB" says: the map's name."""
        name = path.strip("/")
        return {"name": name} if name else {}

    def _read(self, key: Key) -> Value:
        value = self._part.get(key)
        if type(value) is int and not isinstance(self.serializer, NullSerializer):
            return str(value)  # a counter; a serializer expects what it has written, or a text
        return value

    async def _get(self, key: Key, encoding: Any = "utf-8", _conn: Any = None) -> Value:
        return self._read(key)

    async def _gets(self, key: Key, encoding: Any = "utf-8", _conn: Any = None) -> int | None:
        """Return the version of an entry, for `_set`; None: there is none."""
        try:
            _, version = self.map.get_versioned(self._part.key(key))
        except ShmMapError as error:
            version = self._part.missed(error, key, 0)
        return version or None

    async def _multi_get(
        self, keys: Iterable[Key], encoding: Any = "utf-8", _conn: Any = None
    ) -> list[Value]:
        return list(map(self._read, keys))

    async def _set(
        self, key: Key, value: Value, ttl: float | None = None, _cas_token: int | None = None,
        _conn: Any = None,
    ) -> bool:
        """Write; with a token of `_gets`, only if nobody has written since."""
        if _cas_token is None:
            return self._part.set(key, value, ttl or None)
        try:
            return self.map.cas(self._part.key(key), value, _cas_token, ttl or None)
        except ShmMapError as error:
            return bool(self._part.missed(error, key, False))

    async def _multi_set(
        self, pairs: Iterable[tuple[Key, Value]], ttl: float | None = None, _conn: Any = None
    ) -> bool:
        return not self._part.set_many(dict(pairs), ttl or None)

    async def _add(
        self, key: Key, value: Value, ttl: float | None = None, _conn: Any = None
    ) -> bool:
        """Write where there is no entry. Raises ValueError where there is one."""
        if not self._part.add(key, value, ttl or None):
            raise ValueError(f"Key {key} already exists, use .set to update the value")
        return True

    async def _exists(self, key: Key, _conn: Any = None) -> bool:
        return self._part.has(key)

    async def _increment(self, key: Key, delta: int, _conn: Any = None) -> int:
        """Add to a number, in one step; where that cannot be done just now, as if none was there.
        Raises TypeError for what is no number."""
        try:
            total = self._part.incr(key, delta, self.ttl)
        except (TypeError, ValueError):  # the text that a serializer has made of a number
            total = self._increment_text(key, delta)
        return delta if total is None else total

    def _increment_text(self, key: Key, delta: int) -> int | None:
        def added(text: Value) -> str:
            return str(int(text) + delta)

        try:
            return int(self.map.apply(self._part.key(key), added, "0", self.ttl))
        except ShmMapError as error:
            missed: int | None = self._part.missed(error, key, None)
            return missed
        except ValueError:
            raise TypeError("Value is not an integer") from None

    async def _expire(self, key: Key, ttl: float | None, _conn: Any = None) -> bool:
        return self._part.touch(key, ttl or None)

    async def _delete(self, key: Key, _conn: Any = None) -> int:
        return int(self._part.delete(key))

    async def _clear(self, namespace: str | None = None, _conn: Any = None) -> bool:
        """Remove the keys of a namespace, this cache's if none is given; without any, all that
        this cache has. Other tasks run meanwhile."""
        start = self.namespace if namespace is None else namespace
        try:
            for number, key in enumerate(self._part.keys()):
                if not start or (isinstance(key, str) and key.startswith(start)):
                    self._part.delete(key)
                if number % _TURN == 0:
                    await asyncio.sleep(0)
        except ShmMapError as error:
            return bool(self._part.missed(error, start, False))
        return True

    async def _raw(
        self, command: str, *args: Any, encoding: Any = None, _conn: Any = None, **kwargs: Any
    ) -> Any:
        """Call a method of the map, of those to await too. Keys are the map's: with namespace and
        prefix."""
        answer = getattr(self.map, command)(*args, **kwargs)
        return await answer if inspect.isawaitable(answer) else answer

    async def _redlock_release(self, key: Key, value: Value) -> int:
        """Remove a lock's entry in one step, if it is the caller's; count it."""
        def released(held: Value) -> Value:
            if held != value:
                raise KeyError(key)
            return DELETE

        try:
            self.map.apply(self._part.key(key), released)
        except KeyError:
            return 0
        except ShmMapError as error:
            return int(self._part.missed(error, key, 0))
        return 1


AIOCACHE_CACHES[ShmMapCache.NAME] = ShmMapCache  # for Cache.from_url("shmmap:///pages?size=64MB")
