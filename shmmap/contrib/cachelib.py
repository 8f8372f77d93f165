"""A cache for cachelib, and so for Flask-Session and whatever else takes one of its caches.

    cache = ShmMapCache("pages", size="64MB")
"""

from __future__ import annotations

import datetime
from typing import Any

from cachelib.base import BaseCache

from ..checks import Value, seconds
from ..lifecycle.parameters import UNSAID
from ..map import ShmMap
from .part import OPTIONS, Part, check_options, instead_of_ttl


class ShmMapCache(BaseCache):
    """cachelib's interface on a map that every process of the machine shares.

    Args:
        m: the map's name, or a handle on it.
        default_timeout: seconds that an entry lives; 0: for good.
        key_prefix: shares the map with caches of other prefixes: `clear` leaves theirs alone.
        options: those of ShmMap, where `m` is a name, and `strict`: True: raise what the map
            raises.

    `add`, `inc` and `dec` are one step, for all processes.

    Raises:
        TypeError: no map is said, there is no such option, or `default_timeout` is no number.
    """

    NAMED, TIMEOUT = "m", "default_timeout"  # how the map's name and the time are said

    def __init__(
        self, m: ShmMap | str = UNSAID, default_timeout: int | datetime.timedelta = 300,
        key_prefix: str | None = None, *, ignore_delete_many_errors: bool = True, **options: Any,
    ) -> None:
        check_options(type(self).__name__, options, OPTIONS - {"ttl"}, named=self.NAMED, instead={
            **instead_of_ttl(f"say {self.TIMEOUT}"),
            "threshold": "a map is bounded in bytes: say size",
        })
        seconds(default_timeout, "default_timeout", " (0: for good)")
        super().__init__(default_timeout)
        self.ignore_delete_many_errors = ignore_delete_many_errors
        self._part = Part(m, key_prefix, **options)
        self.map = self._part.map

    def __repr__(self) -> str:
        return self._part.described(self)

    def _ttl(self, timeout: Any) -> float | None:
        """Return what a timeout is here: 0, or less, never ends."""
        if timeout is None:
            timeout = self.default_timeout
        if type(timeout) is not int:
            timeout = seconds(timeout, "timeout")
        return timeout if timeout > 0 else None

    def get(self, key: str) -> Value:
        """Return the value of `key`; None: there is none."""
        return self._part.get(key)

    def has(self, key: str) -> bool:
        """Tell whether there is an entry."""
        return self._part.has(key)

    def set(self, key: str, value: Value, timeout: Any = None) -> bool:
        """Write; tell whether it was written."""
        return self._part.set(key, value, self._ttl(timeout))

    def add(self, key: str, value: Value, timeout: Any = None) -> bool:
        """Write where there is no entry, in one step; tell whether it was written."""
        return self._part.add(key, value, self._ttl(timeout))

    def delete(self, key: str) -> bool:
        """Remove an entry; tell whether there was one."""
        return self._part.delete(key)

    def inc(self, key: str, delta: int = 1) -> int | None:
        """Add to a number, in one step; the sum, or None where that cannot be done just now."""
        total: int | None = self._part.incr(key, delta, self._ttl(None))
        return total

    def dec(self, key: str, delta: int = 1) -> int | None:
        """Take from a number, in one step; the difference, or None."""
        return self.inc(key, -delta)

    def clear(self) -> bool:
        """Remove every entry of this cache, and none of another prefix."""
        self._part.clear()
        return True
