"""A storage for limits, and so for Flask-Limiter and slowapi.

    import shmmap.contrib.limits  # registers the schemes below

    Limiter(get_remote_address, app=app, storage_uri="shmmap://limits?size=16MB")

Importing this module has limits know shmmap:// and async+shmmap://. Each hit is one step for all
processes of the machine: `incr`, or a compare-and-swap of the one entry that has the key's window.
No lock is held meanwhile, so a process that is killed leaves none.
"""

from __future__ import annotations

import asyncio
import time
from ast import literal_eval
from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress
from math import ceil, floor
from struct import Struct
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from limits.aio import storage as aio
from limits.errors import ConfigurationError
from limits.storage import MovingWindowSupport, SlidingWindowCounterSupport, Storage

from ..errors import ShmMapError
from ..map import ShmMap
from ..operations._changes_cy import versioned
from ..operations.changes import Patience
from .part import OPTIONS, Part, check_options

COUNT, LOG, SLIDE, CHECK = "count:", "log:", "slide:", "check:"  # what keys begin with
EXACT = 1024  # hits with a record of their own in a moving window's log
Step = tuple[bytes, float]  # what to write, and for how many seconds
_WORDS = {"true": True, "false": False, "none": None}
_Errors = type[Exception] | tuple[type[Exception], ...]


def read_uri(uri: str) -> tuple[str, dict[str, Any]]:
    """Return the map's name, and the options of its URI.

    >>> read_uri("shmmap://shop@limits?size=16MB&shards=8&mode=0o660&lock_timeout=0.5")
    ('shop@limits', {'size': '16MB', 'shards': 8, 'mode': 432, 'lock_timeout': 0.5})
    """
    parts = urlsplit(uri)
    if not parts.netloc or parts.path.strip("/"):
        raise ConfigurationError(f"{uri!r} must name a map: shmmap://NAME?size=16MB")
    return parts.netloc, {option: _value(option, text) for option, text in parse_qsl(parts.query)}


def _value(option: str, text: str) -> Any:
    """Read an option of a URI as Python would: numbers, true, none; all else is text."""
    if option == "mode" and text.isdecimal() and (text[0] == "0" or int(text) & ~0o666):
        raise ConfigurationError(f"mode={text} in the URI: write mode=0o{text.lstrip('0')}")
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    with suppress(ValueError, SyntaxError):
        return literal_eval(text)
    return text


# -- the log of a moving window: what it counts, then, of each hit, its time and what was counted
# before it; all doubles, so that what is in the window is found by bisection, and cut off as bytes

_TOTAL, _HIT = Struct("=d"), Struct("=dd")
_EMPTY = _TOTAL.pack(0)


def _within(log: bytes, now: float, expiry: int) -> tuple[float | None, int, int]:
    """Return the time of the oldest hit in the window, how many are in it, and how many records
    are older."""
    numbers = memoryview(log).cast("d")
    times = numbers[1::2]
    older = bisect_right(times, now - expiry)
    if older == len(times) or times[-1] > now + expiry:  # the clock was set back by more than that
        return None, 0, len(times)
    return times[older], int(numbers[0] - numbers[2 + 2 * older]), older


def _logged(log: bytes | None, limit: int, expiry: int, amount: int) -> Step | None:
    """Add hits to a log; None: they are too many."""
    now = time.time()
    log = log or _EMPTY
    _, count, older = _within(log, now, expiry)
    if count + amount > limit:
        return None
    total, hits = _TOTAL.unpack_from(log)[0], log[_TOTAL.size + older * _HIT.size :]
    if len(hits) >= EXACT * _HIT.size:  # from here on hits share a record, and leave together
        grain = expiry / EXACT
        now = ceil(now / grain) * grain
    # not later than the last: the same grain, or the clock was set back. Times never descend
    if not hits or now > _HIT.unpack_from(hits, len(hits) - _HIT.size)[0]:
        hits += _HIT.pack(now, total)
    return _TOTAL.pack(total + amount) + hits, expiry


# -- the sliding counter: when the window began, and what was counted before it and in it

_SLIDE = Struct("=dQQ")


def _slid(state: bytes | None, now: float, expiry: int) -> tuple[float, int, int]:
    """Return the window as it is by now: its begin, the count of the one before, and its own."""
    start, previous, current = _SLIDE.unpack(state) if state else (now, 0, 0)
    passed = (now - start) // expiry
    if not -2 < passed < 2:  # less: the clock was set back by more than a window
        return now, 0, 0
    return (start + expiry, current, 0) if passed == 1 else (start, previous, current)


def _taken(state: bytes | None, limit: int, expiry: int, amount: int) -> Step | None:
    """Count hits; None: they are too many."""
    now = time.time()
    start, previous, current = _slid(state, now, expiry)
    left = min(start + expiry - now, expiry)  # `start` is ahead where the clock was set back
    if floor(previous * left / expiry + current) + amount > limit:
        return None
    return _SLIDE.pack(start, previous, current + amount), left + expiry


class Windows:
    """The windows of one application in a map: what both storages are made of.

    Args:
        uri: shmmap://NAME?OPTIONS, or an open map.
        options: those of ShmMap, and `key_prefix`, the first item of every key ("LIMITS"):
            applications of different prefixes can share a map. They go before those of the URI.

    A map that this opens evicts when it is full (`on_full="evict"`): limits that were not asked
    for lately are forgotten, and no request fails. With `on_full="raise"` nothing is forgotten, and
    a new client's first hit raises MapFull.
    """

    def __init__(self, uri: str | ShmMap, **options: Any) -> None:
        m: str | ShmMap = uri
        if isinstance(uri, str):
            m, said = read_uri(uri)
            options = {**said, **options}
        key_prefix = str(options.pop("key_prefix", "LIMITS"))
        check_options("shmmap:// (limits)", options, {*OPTIONS, "key_prefix"} - {"strict"},
                      named="the URI's host: shmmap://NAME")
        self._part = Part(m, key_prefix, strict=True, **options)
        self.map: ShmMap = self._part.map

    def __repr__(self) -> str:
        return self._part.described(self)

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count in a fixed window, which begins with its first hit; return the count: one step."""
        total: int = self._part.incr(COUNT + key, amount, expiry)
        return total

    def get(self, key: str) -> int:
        """Return the count of a fixed window."""
        count: int = self._part.get(COUNT + key, 0)
        return count

    def get_expiry(self, key: str) -> float:
        """Return when a fixed window ends, as `time.time()` counts; now: there is none."""
        left: float | None = None
        with suppress(KeyError):
            left = self.map.ttl(self._part.key(COUNT + key))
        return time.time() + (left or 0.0)

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count in a moving window, if the hits of the last `expiry` seconds let it: one step.

        Up to 1024 hits are kept each with its time. In a window of more, those of the same
        1024th of it leave together, with the last: the log stays below 33 kB, and never more than
        `limit` hits are in any window.
        """
        return self._step(LOG + key, lambda log: _logged(log, limit, expiry, amount))

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Return the time of the oldest hit in the moving window, or now, and how many there
        are."""
        now = time.time()
        oldest, count, _ = _within(self._part.get(LOG + key, _EMPTY), now, expiry)
        return (now if oldest is None else oldest), count

    def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        """Count in a sliding window counter, if both windows, as they weigh, let it: one step."""
        return self._step(SLIDE + key, lambda state: _taken(state, limit, expiry, amount))

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Return the count of the previous window and the seconds it still weighs, and the same of
        the current one."""
        now = time.time()
        start, previous, current = _slid(self._part.get(SLIDE + key), now, expiry)
        left = min(start + expiry - now, expiry)
        return (previous, left if previous else 0.0, current, left + expiry if current else 0.0)

    def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Forget the hits in a sliding window."""
        self._part.delete(SLIDE + key)

    def clear(self, key: str) -> None:
        """Forget the hits of a key, in windows of every kind."""
        for kind in (COUNT, LOG, SLIDE):
            self._part.delete(kind + key)

    def reset(self) -> int | None:
        """Forget all hits of this key_prefix; return how many windows there were."""
        return self._part.clear()

    def check(self) -> bool:
        """Tell whether the map can be written to and read."""
        try:
            self._part.set(CHECK, True, 1)
            self._part.delete(CHECK)
        except ShmMapError:
            return False
        return True

    def _step(self, name: str, step: Callable[[bytes | None], Step | None]) -> bool:
        """Write what `step` makes of an entry, if nobody has written it meanwhile, else again from
        the start. False: `step` refused, and nothing was written.

        Raises:
            EditConflict: others were first each time, for the handle's `lock_timeout`.
        """
        m: Any = self.map
        key = self._part.key(name)
        patience: Patience | None = None
        while True:
            found, version, _ = versioned(m, key)
            done = step(found if version else None)
            if done is None:
                return False
            if m.cas(key, done[0], version, done[1]):
                return True
            patience = patience or Patience(m, key, "a limiter")
            patience.once_more()


class ShmMapStorage(Windows, Storage, MovingWindowSupport, SlidingWindowCounterSupport):
    """limits' storage on a map that every process of the machine shares; scheme shmmap://.

    Args:
        uri: shmmap://NAME?OPTIONS, or an open map.
        wrap_exceptions: raise limits' StorageError instead of the map's errors.
        options: those of ShmMap, and `key_prefix`: see `Windows`.
    """

    STORAGE_SCHEME = ["shmmap"]  # noqa: RUF012

    def __init__(
        self, uri: str | ShmMap, wrap_exceptions: bool = False, **options: Any
    ) -> None:
        Storage.__init__(self, None, wrap_exceptions)
        Windows.__init__(self, uri, **options)

    @property
    def base_exceptions(self) -> _Errors:
        """What is raised where the map is in the way."""
        return (ShmMapError,)


class AsyncShmMapStorage(
    aio.Storage, aio.MovingWindowSupport, aio.SlidingWindowCounterSupport
):
    """The same for coroutines; scheme async+shmmap://. A hit takes microseconds, so it is done at
    once; only `reset`, which goes through all of the map, is given to a thread."""

    STORAGE_SCHEME = ["async+shmmap"]  # noqa: RUF012

    def __init__(
        self, uri: str | ShmMap, wrap_exceptions: bool = False, **options: Any
    ) -> None:
        super().__init__(None, wrap_exceptions)
        self._windows = Windows(uri, **options)
        self.map = self._windows.map

    def __repr__(self) -> str:
        return self._windows._part.described(self)

    @property
    def base_exceptions(self) -> _Errors:
        """What is raised where the map is in the way."""
        return (ShmMapError,)

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        return self._windows.incr(key, expiry, amount)

    async def get(self, key: str) -> int:
        return self._windows.get(key)

    async def get_expiry(self, key: str) -> float:
        return self._windows.get_expiry(key)

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        return self._windows.acquire_entry(key, limit, expiry, amount)

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        return self._windows.get_moving_window(key, limit, expiry)

    async def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        return self._windows.acquire_sliding_window_entry(key, limit, expiry, amount)

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        return self._windows.get_sliding_window(key, expiry)

    async def clear_sliding_window(self, key: str, expiry: int) -> None:
        self._windows.clear_sliding_window(key, expiry)

    async def clear(self, key: str) -> None:
        self._windows.clear(key)

    async def reset(self) -> int | None:
        return await asyncio.to_thread(self._windows.reset)

    async def check(self) -> bool:
        return self._windows.check()
