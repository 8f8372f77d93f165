"""A backend for dogpile.cache, and an invalidation that every process sees.

    region = make_region("pages")
    region.configure("shmmap", arguments={"name": "pages", "size": "64MB"},
                     region_invalidator=ShmMapInvalidation(region))
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Mapping
from typing import Any

from dogpile.cache import register_backend
from dogpile.cache.api import (
    NO_VALUE,
    BackendSetType,
    CachedValue,
    CacheMutex,
    CacheReturnType,
    KeyType,
    SerializedReturnType,
)
from dogpile.cache.api import CacheBackend as _CacheBackend
from dogpile.cache.region import CacheRegion, RegionInvalidationStrategy

from ..errors import Reentered, ShmMapError
from ..locks.named_locks import Lock
from ..operations._writes_cy import DEFAULT
from ..system.tasks import current_holder
from .part import Part, check_options

_MARK = ("dogpile.cache", "invalidated")  # the key of when a part was; no region's key is a tuple
_TIMES = struct.Struct("<dd")  # of the last hard and of the last soft invalidation


class ShmMapBackend(_CacheBackend):
    """dogpile.cache's interface on a map that every process of the machine shares.

    Args:
        arguments: those of the region:
            name: the map's name ("dogpile"), or a handle on it.
            prefix: shares the map with regions of other prefixes. Give each region one of its own.
            expiration_time: seconds after which the map forgets an entry; None or 0: never; not
                given: the map's ttl. Longer than the region's expiration time, if an old value is
                to be served while a new one is computed.
            distributed_lock: True (default): of all processes one computes a value. False: one
                thread of each process.
            lock_timeout: seconds after which another process may compute it, though the first
                still does; None: never. A process that dies is replaced at once.
            lock_blocking_timeout: seconds to wait for another's value before computing it, too.
            strict: True: raise what the map raises.
            All others are options of ShmMap.

    A value lies in the map as (payload, metadata), pickled, or as the bytes that the region's
    serializer made of it.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        options = {"name": "dogpile", "prefix": None, "expiration_time": DEFAULT, **arguments}
        self._is_distributed = bool(options.pop("distributed_lock", True))
        self._lease = options.pop("lock_timeout", None) or None
        self._patience = options.pop("lock_blocking_timeout", None)
        self._ttl = options.pop("expiration_time") or None
        name, prefix = options.pop("name"), options.pop("prefix")
        check_options("arguments of the region", options, named="name")
        self.part = Part(name, prefix, **options)
        self.map = self.part.map
        self.part.add(_MARK, _nothing_before(), None)

    def __repr__(self) -> str:
        return self.part.described(self)

    def has_lock_timeout(self) -> bool:
        """Tell whether two may compute a value at once: see `lock_timeout`."""
        return self._lease is not None

    def get_mutex(self, key: KeyType) -> CacheMutex | None:
        """Return the lock of a key, of all processes."""
        if not self._is_distributed:
            return None
        name = ("dogpile.cache", self.part.key(key))
        return _Mutex(self.part, self.map.lock(name, self._patience, self._lease))

    def get(self, key: KeyType) -> CacheReturnType:
        """Return a value with its metadata; NO_VALUE: there is none."""
        stored = self.part.get(key, NO_VALUE)
        # a list: of a map whose codec knows no tuples
        return CachedValue(*stored) if isinstance(stored, (tuple, list)) else NO_VALUE

    def get_multi(self, keys: Iterable[KeyType]) -> list[CacheReturnType]:
        """Return the values of several keys, in their order."""
        return list(map(self.get, keys))

    def get_serialized(self, key: KeyType) -> SerializedReturnType:
        """Return what a region with a serializer has stored; NO_VALUE: there is none."""
        stored = self.part.get(key, NO_VALUE)
        return stored if isinstance(stored, bytes) else NO_VALUE

    def get_serialized_multi(self, keys: Iterable[KeyType]) -> list[SerializedReturnType]:
        """Return that of several keys, in their order."""
        return list(map(self.get_serialized, keys))

    def set(self, key: KeyType, value: BackendSetType) -> None:
        """Write a value with its metadata, or the bytes of both."""
        # half as long as a CachedValue, which takes its class's name along, and twice as fast
        self.part.set(key, value if isinstance(value, bytes) else tuple(value), self._ttl)

    def set_multi(self, mapping: Mapping[KeyType, BackendSetType]) -> None:
        """Write several values; each is one step."""
        for key, value in mapping.items():
            self.set(key, value)

    def delete(self, key: KeyType) -> None:
        """Remove an entry, if there is one."""
        self.part.delete(key)

    def delete_multi(self, keys: Iterable[KeyType]) -> None:
        """Remove several."""
        for key in keys:
            self.part.delete(key)


class _Mutex(CacheMutex):
    """A lock as dogpile.cache takes it, which releases it whether it was acquired or not."""

    def __init__(self, part: Part, lock: Lock) -> None:
        self._part = part
        self._lock = lock
        self._without: set[object] = set()  # the holders that go on without it

    def acquire(self, wait: bool = True) -> bool:
        """Take it; False: it was not to be had, and whoever asked goes on without it.

        Raises:
            Reentered: a value needs itself.
        """
        try:
            taken = self._lock.acquire(wait)
        except Reentered:
            raise
        except ShmMapError as error:
            taken = bool(self._part.missed(error, self._lock.key, False))
        if taken:
            self._without.discard(current_holder())
        elif wait:
            self._without.add(current_holder())
        return taken

    def release(self) -> None:
        """Free it, from any thread; do nothing where this one has gone on without it."""
        holder = current_holder()
        if holder in self._without:
            self._without.discard(holder)
            return
        try:
            self._lock.release()
        except ShmMapError as error:  # LockLost, too: the value took longer than its lock lasts
            self._part.missed(error, self._lock.key, None)

    def locked(self) -> bool:
        """Tell whether anybody on the machine computes the value now."""
        try:
            return self._lock.locked()
        except ShmMapError as error:
            return bool(self._part.missed(error, self._lock.key, False))


class ShmMapInvalidation(RegionInvalidationStrategy):
    """Keeps in the map when a region was invalidated, so that `region.invalidate()` counts for
    every process, and for those that start later.

    Args:
        region: the region that it is given to. What is invalidated are the values of its map that
            have the prefix of its backend.

    A hard invalidation stays one, whatever soft one follows. Where the map has lost what it kept
    (it was cleared, say, or it evicted even that), all values that are there count as invalid:
    they are computed once more, and nothing old is served.
    """

    def __init__(self, region: CacheRegion) -> None:
        self._region = region
        self._known = (0.0, 0.0)  # the latest that this process has seen, or said

    @property
    def _part(self) -> Part:
        """What the region's backend has of its map; the region may be configured later."""
        backend: Any = self._region.backend
        while hasattr(backend, "proxied"):
            backend = backend.proxied
        if not isinstance(backend, ShmMapBackend):
            raise TypeError("ShmMapInvalidation is for a region whose backend is 'shmmap', not "
                            f"{type(backend).__name__}")
        return backend.part

    def invalidate(self, hard: bool = True) -> None:
        """Have all values that are there now be computed anew, in every process."""
        now = time.time()
        ours = _later((now, 0.0) if hard else (0.0, now), self._known)
        self._known = ours
        self._tell(ours)

    def is_hard_invalidated(self, timestamp: float) -> bool:
        """Tell whether a value of that time must not be served any more."""
        return timestamp < self._times()[0]

    def is_soft_invalidated(self, timestamp: float) -> bool:
        """Tell whether a value of that time is served only while a new one is computed."""
        hard, soft = self._times()
        return hard <= timestamp < soft

    def is_invalidated(self, timestamp: float) -> bool:
        """Tell whether a value of that time is one of these."""
        return timestamp < max(self._times())

    def was_hard_invalidated(self) -> bool:
        """Tell whether the last invalidation was a hard one."""
        hard, soft = self._times()
        return hard > soft

    def was_soft_invalidated(self) -> bool:
        """Tell whether it was a soft one."""
        hard, soft = self._times()
        return soft > hard

    def _times(self) -> tuple[float, float]:
        """Return when the region was invalidated last: hard, and soft."""
        part = self._part
        stored = part.get(_MARK)
        if stored is None:
            begun = _nothing_before()
            stored = begun if part.add(_MARK, begun, None) else part.get(_MARK)
        if stored is not None:  # or the map is in the way
            found = _TIMES.unpack(stored)
            if found != self._known:
                known = self._known = _later(found, self._known)
                if known != found:  # ours could not be written then
                    self._tell(known)
        return self._known

    def _tell(self, ours: tuple[float, float]) -> None:
        """Write invalidations to the map, but for those that it has later ones of."""
        part = self._part

        def merged(stored: bytes) -> bytes:
            return _TIMES.pack(*_later(_TIMES.unpack(stored), ours))

        try:
            part.map.apply(part.key(_MARK), merged, _nothing_before(), None)
        except ShmMapError as error:
            part.missed(error, _MARK, None)


def _nothing_before() -> bytes:
    """Return what stands in a map that knows nothing of the time before."""
    return _TIMES.pack(time.time(), 0.0)


def _later(one: tuple[float, ...], other: tuple[float, ...]) -> tuple[float, float]:
    """Return the later times of two pairs of them."""
    return max(one[0], other[0]), max(one[1], other[1])


register_backend("shmmap", __name__, "ShmMapBackend")  # type: ignore[no-untyped-call]
