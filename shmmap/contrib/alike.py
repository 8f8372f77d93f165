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
from .part import NOTHING, OPTIONS, Part, check_options

Time = int | str | timedelta


def _bytes(value: Value) -> bytes:
    """Return what redis-py sends for a key, a value or a number."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return repr(value).encode()
    raise TypeError(f"redis takes bytes, str, int and float, not {type(value).__name__}")


def _number(data: bytes) -> bytes | int:
    """Keep what redis can count up, a whole number of 64 bits, as one."""
    digits = data[1:] if data[:1] == b"-" else data
    if digits.isdigit() and len(digits) < 20 and (digits[:1] != b"0" or data == b"0"):
        number = int(data)
        if -(1 << 63) <= number < 1 << 63:
            return number
    return data


def _whole(value: Value, least: int | None = None) -> int:
    number = _number(_bytes(value))
    if not isinstance(number, int) or (least is not None and number < least):
        bound = "" if least is None else f", {least} or more"
        raise ValueError(f"{value!r} is no whole number of 64 bits{bound}")
    return number


def _time(time: Time, per_s: int) -> int:
    """Return how many units a time is, `per_s` of which are a second: `ex` and `px`."""
    if isinstance(time, timedelta):
        time = int(time.total_seconds() * per_s)
    elif isinstance(time, str) and per_s == 1 and time.isdigit():
        time = int(time)
    elif not isinstance(time, int):
        raise TypeError(f"ex and px are int or timedelta, not {type(time).__name__}")
    return _whole(time, 1)


def _seconds(time: Time) -> Time:
    return int(time.total_seconds()) if isinstance(time, timedelta) else time


class LikeRedis:
    """A map with the methods of `redis.Redis`: values come back as bytes (or as str, with
    `decode_responses`). Keys and values are bytes, str, int and float; `1`, `"1"` and `b"1"` are
    one key. What redis-py or its server refuses is a TypeError, a ValueError or an OverflowError.
    Arguments as for `Part`, and strict: what the map raises is raised, as redis raises its errors.

    >>> with ShmMap("doctest", size="1MB", ephemeral=True) as m:
    ...     r = LikeRedis(m)
    ...     r.set("n", 1, ex=60), r.incr("n"), r.get("n"), r.get("none"), r.ttl("n")
    (True, 2, b'2', None, 60)
    """

    def __init__(
        self, m: ShmMap | str, prefix: Key = None, *, decode_responses: bool = False,
        **options: Any,
    ) -> None:
        check_options("LikeRedis", options, OPTIONS - {"strict"})
        self._part = Part(m, prefix, strict=True, **options)
        self.map = self._part.map
        self._decodes = decode_responses

    def __repr__(self) -> str:
        return self._part.described(self)

    def _key(self, key: Key) -> Key:
        """Return what the map calls a key: its text, or its bytes, where they are none."""
        data = _bytes(key)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data

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
        is_one = isinstance(keys, (str, bytes, bytearray, memoryview, int, float))
        listed: list[Key] = [keys] if is_one else list(keys)
        return [self.get(key) for key in (*listed, *more)]

    def set(
        self, name: Key, value: Value, ex: Time | None = None, px: Time | None = None,
        nx: bool = False, xx: bool = False, keepttl: bool = False,
    ) -> bool | None:
        """Write; None: there was an entry (`nx`), or none (`xx`)."""
        if (ex is not None) + (px is not None) + bool(keepttl) > 1 or (nx and xx):
            raise ValueError("one of ex, px and keepttl, and one of nx and xx")
        key, kept = self._key(name), _number(_bytes(value))
        ttl = None
        if ex is not None:
            ttl = float(_time(ex, 1))
        elif px is not None:
            ttl = _time(px, 1000) / 1000
        elif keepttl:
            ttl = self._left(key)
        if nx:
            return self._part.add(key, kept, ttl) or None
        if xx:
            return self.map.replace(self._part.key(key), kept, ttl) or None
        return self._part.set(key, kept, ttl)

    def setex(self, name: Key, time: Time, value: Value) -> bool | None:
        """Write with a time to live, in seconds."""
        return self.set(name, value, ex=_whole(_seconds(time)))

    def setnx(self, name: Key, value: Value) -> bool:
        """Write where there is no entry; tell whether it was written."""
        return bool(self.set(name, value, nx=True))

    def mset(self, mapping: dict[Key, Value]) -> bool:
        """Write many."""
        for key, value in [(self._key(key), _bytes(value)) for key, value in mapping.items()]:
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
        return self._add(name, _whole(amount))

    def decrby(self, name: Key, amount: int = 1) -> int:
        """Take from a number, in one step; return the difference."""
        return self._add(name, -_whole(amount))

    def _add(self, name: Key, amount: int) -> int:
        total: int = self._part.incr(self._key(name), amount, None)
        return total

    incr, decr = incrby, decrby

    def expire(self, name: Key, time: Time) -> bool:
        """Give an entry so many seconds to live; tell whether there is one."""
        return self._part.touch(self._key(name), _whole(_seconds(time)))

    def ttl(self, name: Key) -> int:
        """Return the seconds that an entry has left; -1: it does not end, -2: there is none."""
        key = self._key(name)
        if not self._part.has(key):
            return -2
        left = self._left(key)
        return -1 if left is None else max(0, int(left + 0.5))

    def flushdb(self) -> bool:
        """Remove everything of this part."""
        self._part.clear()
        return True

    def _left(self, key: Key) -> float | None:
        try:
            return self.map.ttl(self._part.key(key))
        except KeyError:
            return None


class LikeDiskcache:
    """A map with the methods of `diskcache.Cache`. Arguments as for `Part`.

    >>> with ShmMap("doctest", size="1MB", ephemeral=True) as m:
    ...     cache = LikeDiskcache(m)
    ...     cache.set("n", 1, expire=60), cache.incr("n"), cache["n"], cache.pop("n")
    (True, 2, 2, 2)
    """

    def __init__(self, m: ShmMap | str, prefix: Key = None, **options: Any) -> None:
        check_options("LikeDiskcache", options, OPTIONS - {"strict"})
        self._part = Part(m, prefix, strict=True, **options)
        self.map = self._part.map

    def __repr__(self) -> str:
        return self._part.described(self)

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
