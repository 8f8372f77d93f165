"""One process of the machine hears what changes in the store, and takes it out of the map.

Which one: whoever has the named lock of the tier's feed, which is free as soon as its holder has
died, and after LEASE_S where that is stopped. All others look every LOOK_S. The one that has it

    1  opens the store's feed, says which servers that hears, where there are several, then has
       `since` rise to now: all copies of before are old
    2  takes out of the map what the feed names
    3  asks the feed for a proof every `interval`, and publishes, once it has come, when it was
       asked for: see `freshness`
    4  where anything fails, closes the feed, leaves the lock, and begins anew: at 1

A holder that was stopped, and goes on after another one has taken its place, does no harm: what it
takes out is asked for again, and what it publishes is true.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ..errors import LockLost, MapClosed, ShmMapError, StoreUnavailable
from ..map import ShmMap
from ..system.process import this_process
from .freshness import Freshness, Sources
from .parts import Runs
from .store import Changed, Feed, Proven, Store
from .store_keys import RESERVED, StoreKeys

LEASE_S = 2.0
LOOK_S = 0.25
_SLICE_S = 0.25  # of one step; between two of them it may end
_NO_PAUSE_S = 0.001


class Part(Runs):
    """One process's part.

    Attributes:
        is_listening: whether it is this process that hears what changes.
        changes, epochs: names that were taken out here, and how often `since` rose.
        trouble: what went wrong last; "": nothing, or another process listens.
    """

    def __init__(
        self, m: ShmMap, store: Store, names: StoreKeys, freshness: Freshness, interval_s: float
    ) -> None:
        self._map = m
        self._store = store
        self._names = names
        self._freshness = freshness
        self._interval_ns = int(interval_s * 1e9)
        self._now = freshness.now
        self._process = this_process()
        super().__init__(LOOK_S)
        self._feed: Feed | None = None
        self._lock: Any = None
        self._sources: Sources = ()
        self._since = self._proof_asked = self._proof_due = self._renew_at = 0
        self._nonce = 0
        self.changes = self.epochs = 0
        self.trouble = ""

    @property
    def is_listening(self) -> bool:
        """Whether it is this process that hears what changes."""
        return self._feed is not None

    def __del__(self) -> None:
        feed = self.__dict__.get("_feed")
        if feed is not None and self._process == this_process():
            feed.close()

    def _step(self) -> bool:
        if self._map.closed:
            self._leave()
            return False
        try:
            if self._feed is None and not self._begin():
                return True
            until = self._now() + int(_SLICE_S * 1e9)
            while self._now() < until and not self._background.stopping:
                self._hear()
        except MapClosed:
            self._leave()
            return False
        except Exception as error:
            self.trouble = f"{type(error).__name__}: {error}"
            self._leave()
            if isinstance(error, MemoryError):
                raise
        if self._background.stopping:
            self._leave()
        self._background.set_interval(LOOK_S if self._feed is None else _NO_PAUSE_S)
        return True

    def _begin(self) -> bool:
        """Become the one that listens, if nobody is."""
        lock = self._map.lock((RESERVED, "feed", self._freshness.place), lease=LEASE_S)
        if not lock.acquire(blocking=False):
            self.trouble = ""  # another one listens
            return False
        self._lock = lock
        self._renew_at = self._now() + int(LEASE_S * 1e9 / 3)
        self._feed = self._store.feed(self._names.prefix)
        names = getattr(self._feed, "sources", None)
        self._sources = () if names is None else (self._now(), names)
        self._proof_asked = 0
        self._anew()
        self.trouble = ""
        return True

    def _anew(self) -> None:
        """Have all copies of before count as old."""
        self._nonce = self._freshness.nonce
        if self._sources:  # first: what another one gives after `since` is not kept
            self._freshness.publish(self._nonce, 0, sources=self._sources)
        self._since = self._now()
        self.epochs += 1
        self._freshness.publish(self._nonce, self._since, sources=self._sources)
        self._proof_due = self._since  # one that is under way stays: its answer is none to the next

    def _hear(self) -> None:
        """Do what is next."""
        feed, now = self._feed, self._now()
        if feed is None:
            raise StoreUnavailable("the feed was closed")
        if now >= self._renew_at:
            self._lock.extend()  # raises LockLost: another one listens
            self._renew_at = now + int(LEASE_S * 1e9 / 3)
        if not self._proof_asked and now >= self._proof_due:
            self._proof_asked = now  # before it is sent
            feed.prove()
        wait_ns = min(self._renew_at, now + int(_SLICE_S * 1e9))
        if not self._proof_asked:
            wait_ns = min(wait_ns, self._proof_due)
        event = feed.next(max(0, wait_ns - now) / 1e9)
        if event is None:
            return
        if isinstance(event, Changed):
            self._take_out(event)
        elif isinstance(event, Proven):
            self._publish()
        else:
            self._anew()
            self._freshness.distrust(self._since)
        if self._freshness.nonce != self._nonce:  # what was taken out may have been another map's
            self._anew()

    def _take_out(self, event: Changed) -> None:
        """Remove what has changed. Where that fails, all of it is old: the caller begins anew."""
        keys = []
        for name in event.names:
            with suppress(ValueError):  # none of ours
                keys.append(self._names.key_of(name))
        self._map.delete_many(keys)
        self.changes += len(keys)

    def _publish(self) -> None:
        """Say up to when all changes are taken out."""
        asked, self._proof_asked = self._proof_asked, 0
        self._proof_due = asked + self._interval_ns
        self._freshness.publish(self._nonce, self._since, asked, sources=self._sources)

    def _leave(self) -> None:
        """Listen no more, and leave it to another one."""
        feed, self._feed = self._feed, None
        lock, self._lock = self._lock, None
        if feed is not None:
            with suppress(Exception):
                feed.close()
        if lock is not None:
            with suppress(LockLost, ShmMapError):
                lock.release()
