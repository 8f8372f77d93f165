"""A map under the names of redis-py and of diskcache: the new side of a Mirror whose old side is
one of these, and for code that was written for them.

Only what caches are used for: what is not here is an AttributeError, and a Mirror leaves it to the
old side.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from ..checks import Key, Value
from ..map import ShmMap
from .part import NOTHING, Part


def _bytes(value: Value) -> bytes:
    """Return what redis would keep of a value."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value).encode()
    raise TypeError(f"redis keeps bytes, str, int and float, not {type(value).__name__}")


def _seconds(time: float | timedelta) -> float:
    return time.total_seconds() if isinstance(time, timedelta) else time


class LikeRedis:
    """A map with the methods of `redis.Redis`: values come back as bytes (or as str, with
    `decode_responses`), keys of str and of bytes are one. Arguments as for `Part`, and strict: what
    the map raises is raised, as redis raises its errors.

    >>> with ShmMap("doctest", size="1MB", ephemeral=True) as m:
    ...     r = LikeRedis(m)
    ...     r.set("n", 1, ex=60), r.incr("n"), r.get("n"), r.get("none"), r.ttl("n")
    (True, 2, b'2', None, 60)
    """

    def __init__(
        self, m: ShmMap | str, prefix: Key = None, *, decode_responses: bool = False,
        **options: Any,
    ) -> None:
        self._part = Part(m, prefix, strict=True, **options)
        self.map = self._part.map
        self._decodes = decode_responses

    def _key(self, key: Key) -> Key:
        return key.decode() if isinstance(key, bytes) else key

    def _answer(self, value: Value) -> Value:
        if value is None:
            return None
        data = _bytes(value)
        return data.decode() if self._decodes else data

    def get(self, name: Key) -> Value:
        """Return the value; None: there is none."""
        return self._answer(self._part.get(self._key(name)))

    def mget(self, keys: Key | Iterable[Key], *more: Key) -> list[Value]:
        """Return the values of many keys."""
        listed = [keys] if isinstance(keys, (str, bytes)) else list(keys)
        return [self.get(key) for key in (*listed, *more)]

    def set(
        self, name: Key, value: Value, ex: float | timedelta | None = None,
        px: float | timedelta | None = None, nx: bool = False, xx: bool = False,
        keepttl: bool = False,
    ) -> bool | None:
        """Write; None: there was an entry (`nx`), or none (`xx`)."""
        ttl = None
        if ex is not None:
            ttl = _seconds(ex)
        elif px is not None:
            ttl = px.total_seconds() if isinstance(px, timedelta) else px / 1000
        key, kept = self._key(name), _number(_bytes(value))
        if keepttl:
            ttl = self._left(key)
        if nx:
            return self._part.add(key, kept, ttl) or None
        if xx:
            return self.map.replace(self._part.key(key), kept, ttl) or None
        return self._part.set(key, kept, ttl)

    def setex(self, name: Key, time: float | timedelta, value: Value) -> bool | None:
        """Write with a time to live, in seconds."""
        return self.set(name, value, ex=time)

    def setnx(self, name: Key, value: Value) -> bool:
        """Write where there is no entry; tell whether it was written."""
        return bool(self.set(name, value, nx=True))

    def mset(self, mapping: dict[Key, Value]) -> bool:
        """Write many."""
        for key, value in mapping.items():
            self.set(key, value)
        return True

    def delete(self, *names: Key) -> int:
        """Remove entries; return how many there were."""
        return sum(self._part.delete(self._key(name)) for name in names)

    def exists(self, *names: Key) -> int:
        """Return how many of these there are."""
        return sum(self._part.has(self._key(name)) for name in names)

    def incrby(self, name: Key, amount: int = 1) -> int:
        """Add to a number, in one step; return the sum."""
        total: int = self._part.incr(self._key(name), amount, None)
        return total

    def decrby(self, name: Key, amount: int = 1) -> int:
        """Take from a number, in one step; return the difference."""
        return self.incrby(name, -amount)

    incr, decr = incrby, decrby

    def expire(self, name: Key, time: float | timedelta) -> bool:
        """Give an entry so many seconds to live; tell whether there is one."""
        return self._part.touch(self._key(name), _seconds(time))

    def ttl(self, name: Key) -> int:
        """Return the seconds that an entry has left; -1: it does not end, -2: there is none."""
        key = self._key(name)
        if not self._part.has(key):
            return -2
        left = self._left(key)
        return -1 if left is None else max(0, round(left))

    def flushdb(self) -> bool:
        """Remove everything of this part."""
        self._part.clear()
        return True

    def _left(self, key: Key) -> float | None:
        try:
            return self.map.ttl(self._part.key(key))
        except KeyError:
            return None


def _number(data: bytes) -> bytes | int:
    """Keep what reads as a whole number as one, so that it can be counted up."""
    digits = data[1:] if data[:1] == b"-" else data
    if digits.isdigit() and len(digits) < 19 and (digits[:1] != b"0" or data == b"0"):
        return int(data)
    return data


class LikeDiskcache:
    """A map with the methods of `diskcache.Cache`. Arguments as for `Part`.

    >>> with ShmMap("doctest", size="1MB", ephemeral=True) as m:
    ...     cache = LikeDiskcache(m)
    ...     cache.set("n", 1, expire=60), cache.incr("n"), cache["n"], cache.pop("n")
    (True, 2, 2, 2)
    """

    def __init__(self, m: ShmMap | str, prefix: Key = None, **options: Any) -> None:
        self._part = Part(m, prefix, strict=True, **options)
        self.map = self._part.map

    def get(self, key: Key, default: Value = None, retry: bool = False) -> Value:
        """Return the value; default: there is none."""
        return self._part.get(key, default)

    def set(
        self, key: Key, value: Value, expire: float | None = None, retry: bool = False
    ) -> bool:
        """Write, with so many seconds to live."""
        return self._part.set(key, value, expire)

    def add(
        self, key: Key, value: Value, expire: float | None = None, retry: bool = False
    ) -> bool:
        """Write where there is no entry; tell whether it was written."""
        return self._part.add(key, value, expire)

    def touch(self, key: Key, expire: float | None = None, retry: bool = False) -> bool:
        """Give an entry so many seconds to live; tell whether there is one."""
        return self._part.touch(key, expire)

    def incr(self, key: Key, delta: int = 1, default: int | None = 0, retry: bool = False) -> int:
        """Add to a number, in one step; return the sum. KeyError: there is none, and no default."""
        place = self._part.key(key)
        if default is None:
            total: int = self.map.incr(place, delta, create=False)
        else:
            total = self.map.incr(place, delta, default, None)
        return total

    def decr(self, key: Key, delta: int = 1, default: int | None = 0, retry: bool = False) -> int:
        """Take from a number, in one step; return the difference."""
        return self.incr(key, -delta, default)

    def pop(self, key: Key, default: Value = None, retry: bool = False) -> Value:
        """Remove an entry and return its value."""
        return self.map.pop(self._part.key(key), default)

    def delete(self, key: Key, retry: bool = False) -> bool:
        """Remove an entry; tell whether there was one."""
        return self._part.delete(key)

    def clear(self, retry: bool = False) -> int:
        """Remove everything of this part; return how many entries that was."""
        return self._part.clear()

    def __getitem__(self, key: Key) -> Value:
        value = self._part.get(key, NOTHING)
        if value is NOTHING:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Key, value: Value) -> None:
        self.set(key, value)

    def __delitem__(self, key: Key) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __contains__(self, key: Key) -> bool:
        return self._part.has(key)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Any:
        return self._part.keys()
