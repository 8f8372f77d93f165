"""Who is master, as the sentinels say it, asked again and again.

A connection to a master that has been replaced goes on as long as that one answers: after a
partition an old master has ten seconds and more until the sentinels make it a replica, and loses
what it takes meanwhile. So each process asks all sentinels once a second, in the background. Of
different answers that of the latest election counts (config-epoch). A connection to another server
than that is let go, and the feed ends. Where no sentinel can be reached everything stays as it is.

An earlier election than the one that is known says nothing: who tells of it was cut off. But
sentinels that were all made anew count elections from 0 again. So where most of them have answered
for FORGET_S, and none of them knows of that election, it is forgotten. One sentinel that is cut off
together with this machine is not most of them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis

from ..memory._clock_cy import monotonic
from .parts import Parts, Runs

PERIOD_S = 1.0
FORGET_S = 10.0
_FRESH_S = 5.0

Address = tuple[str, int]


class Sentinels:
    """What redis-py's connections ask for their master, in place of a `Sentinel`.

    Args:
        manager: the `Sentinel`.
        service: what the master is called.
    """

    def __init__(self, manager: Any, service: str) -> None:
        self._manager = manager
        self._service = service
        self._known: tuple[int, Address, float] | None = None  # epoch, address, when
        self._unknown_since: float | None = None  # to most sentinels
        me = weakref.ref(self)
        self._parts = Parts(lambda: _Asking(me))

    def start(self) -> None:
        """Have this process ask in the background; never raises."""
        self._parts.start()

    def stop(self) -> None:
        """Ask no more in this process."""
        self._parts.stop()

    def discover_master(self, service: str) -> Address:
        """Return where the master is."""
        known = self._known
        if known is not None and monotonic() - known[2] < _FRESH_S:
            return known[1]
        found: Address = self._manager.discover_master(service)
        return found

    def is_current(self, connection: Any) -> bool:
        """Tell whether a connection is to the master, as far as is known."""
        known = self._known
        return known is None or (connection.host, connection.port) == known[1]

    def look(self) -> None:
        """Ask all sentinels."""
        found: list[tuple[int, Address, float]] = []
        for sentinel in self._manager.sentinels:
            with suppress(redis.RedisError, OSError):
                seen = sentinel.sentinel_master(self._service)
                epoch = int(seen.get("config-epoch", 0))
                found.append((epoch, (seen["ip"], int(seen["port"])), monotonic()))
        if found and self._counts(max(found), len(found)):
            self._known, self._unknown_since = max(found), None

    def _counts(self, latest: tuple[int, Address, float], answered: int) -> bool:
        """Tell whether the latest of some answers is to be gone by."""
        if self._known is None or latest[0] >= self._known[0]:
            return True
        if 2 * answered <= len(self._manager.sentinels):
            self._unknown_since = None
            return False
        if self._unknown_since is None:
            self._unknown_since = monotonic()
        return monotonic() - self._unknown_since >= FORGET_S


class _Asking(Runs):
    """What one process does. `sentinels`: a weak reference."""

    def __init__(self, sentinels: Callable[[], Sentinels | None]) -> None:
        super().__init__(PERIOD_S)
        self._sentinels = sentinels

    def _step(self) -> bool:
        sentinels = self._sentinels()
        if sentinels is not None:
            sentinels.look()
        return sentinels is not None
