"""A store behind a Tiered, in this process: for tests and for trying out. It can be cut off."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha1
from typing import Any

from ..errors import StoreRefused, StoreUnavailable
from ..tiers.stamps import time_of
from ..tiers.store import HEAD, SHARE, AllChanged, Changed, Found, Proven, Put, PutIf, each
from ..tiers.stored import is_tombstone
from ..windows import ALGORITHMS, Hit, Rate

_AT_ONCE = 1_000  # names in one piece of a listing


class LocalFeed:
    """Tells what a LocalStore changes; `lose` cuts it off."""

    def __init__(self, store: LocalStore, prefix: bytes) -> None:
        self.store = store
        self.prefix = prefix
        self.waiting: deque[Changed | AllChanged | Proven] = deque()
        self.is_lost = False

    def _check(self) -> None:
        self.store.turn()
        if self.is_lost or self.store.is_cut:
            self.is_lost = True
            raise StoreUnavailable("store local: the feed is lost")

    def prove(self) -> None:
        """Put a Proven behind what waits."""
        self._check()
        self.waiting.append(Proven())

    def next(self, timeout_s: float) -> Changed | AllChanged | Proven | None:
        """Return what comes next."""
        self._check()
        if self.waiting:
            return self.waiting.popleft()
        if self.store.waits:
            time.sleep(min(timeout_s, 0.005))
        return None

    def lose(self) -> None:
        """Lose what waits, and all that follows."""
        self.is_lost = True
        self.waiting.clear()

    def close(self) -> None:
        """Hear no more."""
        if self in self.store.feeds:
            self.store.feeds.remove(self)


class LocalStore:
    """Keeps everything in a dict: `Tiered(m, LocalStore())`. Threads may share one; a forked child
    has a copy of its own.

    Attributes:
        is_cut: True: nobody reaches it, as if the wire were cut.
        calls: how often it was asked; what listens to it is not counted.
        kept: what it has.
        now_ns: its clock, which counts the hits of rate limits; tests give another one.

    `turn` is called before each step, for tests that choose the order of steps; `waits`: its feeds
    wait for what comes next.
    """

    where = "local"
    timeout_s = 1.0

    def __init__(self, turn: Callable[[], object] = lambda: None, waits: bool = True) -> None:
        self.turn = turn
        self.waits = waits
        self.is_cut = False
        self.feeds: list[LocalFeed] = []
        self.kept: dict[bytes, tuple[bytes, float | None]] = {}
        self.locks: dict[bytes, tuple[bytes, float]] = {}  # the holder, and until when
        self.token = 0
        self.calls = 0
        self.now_ns: Callable[[], int] = time.time_ns
        self._hitting = threading.RLock()

    def _begin(self) -> None:
        self._reach()
        self.calls += 1

    def _reach(self) -> None:
        self.turn()
        if self.is_cut:
            error = StoreUnavailable("store local: it is cut off")
            error.was_sent = False
            raise error

    def _changed(self, name: bytes) -> None:
        for feed in self.feeds:
            if name.startswith(feed.prefix) and not feed.is_lost:
                feed.waiting.append(Changed([name]))

    def _put(self, name: bytes, data: bytes | None, ttl_s: float | None) -> None:
        if data is None:
            self.kept.pop(name, None)
        else:
            self.kept[name] = data, None if ttl_s is None else time.monotonic() + ttl_s
        self._changed(name)

    def _look(self, name: bytes) -> Found | None:
        data, until = self.kept.get(name, (None, None))
        left = None if until is None else until - time.monotonic()
        return None if data is None or (left is not None and left <= 0) else Found(data, left)

    def get(self, name: bytes) -> Found | None:
        """Return what is under a name."""
        return self.get_many([name])[0]

    def get_many(self, names: Sequence[bytes]) -> list[Found | None]:
        """Return what is under each of these."""
        self._begin()
        return [self._look(name) for name in names]

    def _value(self, name: bytes, stamped: bool) -> Found | None:
        """Return what is under a name, but no tombstone."""
        found = self._look(name)
        return None if found is not None and stamped and is_tombstone(found.data) else found

    def set(
        self, name: bytes, data: bytes, ttl_s: float | None, only: str = "", stamped: bool = False
    ) -> bool:
        """Write."""
        self._begin()
        if only and (self._value(name, stamped) is None) is (only == "present"):
            return False
        self._put(name, data, ttl_s)
        return True

    def set_many(self, pairs: Sequence[tuple[bytes, bytes]], ttl_s: float | None) -> None:
        """Write all of these."""
        self._begin()
        for name, data in pairs:
            self._put(name, data, ttl_s)

    def set_if(
        self, name: bytes, data: bytes | None, ttl_s: float | None, version: bytes, stamped: bool
    ) -> bool:
        """Write, or remove, what still has a version."""
        self._begin()
        found = self._look(name)
        there = b""
        if found is not None:
            there = found.data[2:14] if stamped else sha1(found.data).digest()[:12]
        if there != version:
            return False
        if ttl_s == 0:
            ttl_s = found.ttl_s if found else None
        self._put(name, data, ttl_s)
        return True

    def delete(self, names: Sequence[bytes]) -> int:
        """Remove these."""
        self._begin()
        there = [name for name in dict.fromkeys(names) if self._look(name) is not None]
        for name in there:
            self._put(name, None, None)
        return len(there)

    def bury(self, names: Sequence[bytes], data: bytes, ttl_s: float) -> int:
        """Write a tombstone under each of these."""
        self._begin()
        there = 0
        for name in names:
            there += self._value(name, True) is not None
            self._put(name, data, ttl_s)
        return there

    def touch(self, name: bytes, ttl_s: float | None, stamped: bool = False) -> bool:
        """Give it another time to live."""
        self._begin()
        found = self._value(name, stamped)
        if found is not None:
            self._put(name, found.data, ttl_s)
        return found is not None

    def moment(self) -> Any:
        """Return the time."""
        self._begin()
        return time.monotonic_ns() // 1_000_000

    def put_latest(
        self, puts: Sequence[Put], began: Any, within_ms: int, believed_ns: int
    ) -> list[bool | StoreRefused | None]:
        """Write or remove each of these; tell of each whether it was done."""
        self._begin()
        if not 0 <= time.monotonic_ns() // 1_000_000 - began <= within_ms:
            return [None] * len(puts)
        return [self._put_latest(put, believed_ns) for put in puts]

    def _put_latest(self, put: Put, believed_ns: int) -> bool:
        found = self._look(put.name)
        if found is not None and put.stamp:
            there = found.data[2:14]
            if there > put.stamp and time_of(there) <= believed_ns:
                return False
        self._put(put.name, put.data, put.ttl_s)
        return True

    def put_if(
        self, puts: Sequence[PutIf], began: Any, within_ms: int
    ) -> list[bool | None]:
        """Write each of these that still has a version; tell of each whether it was done."""
        self._begin()
        if time.monotonic_ns() // 1_000_000 - began > within_ms:
            return [None] * len(puts)
        done: list[bool | None] = []
        for put in puts:
            found = self._look(put.name)
            there = b"" if found is None else found.data[2:14] or b"?"
            done.append(there == put.version)
            if there == put.version:
                self._put(put.name, put.data, put.ttl_s)
        return done

    def heads(self, names: Sequence[bytes]) -> list[bytes | None]:
        """Return the first bytes of each."""
        self._begin()
        found = map(self._look, names)
        return [b"" if one is None else one.data[:HEAD] or None for one in found]

    def list_heads(self, prefix: bytes) -> Iterator[list[tuple[bytes, bytes | None]]]:
        """Yield all names that begin with a prefix, some at a time, and their `heads`."""
        names = [name for name in list(self.kept) if name.startswith(prefix)]
        for piece in each(names, _AT_ONCE):
            heads = self.heads(piece)
            yield [(name, head) for name, head in zip(piece, heads, strict=True) if head != b""]

    def feed(self, prefix: bytes) -> LocalFeed:
        """Begin to tell."""
        self._reach()
        feed = LocalFeed(self, prefix)
        self.feeds.append(feed)
        return feed

    def take_lock(self, name: bytes, holder: bytes, lease_s: float) -> int:
        """Take a lock."""
        self._begin()
        with self._hitting:
            if self._holder(name) not in (None, holder):
                return 0
            self.locks[name] = holder, time.monotonic() + lease_s
            self.token += 1
            return self.token

    def renew_lock(self, name: bytes, holder: bytes, lease_s: float) -> bool:
        """Have the lease start anew; False: it is not this one's."""
        self._begin()
        with self._hitting:
            if self._holder(name) != holder:
                return False
            self.locks[name] = holder, time.monotonic() + lease_s
            return True

    def free_lock(self, name: bytes, holder: bytes) -> bool:
        """Let it go."""
        self._begin()
        with self._hitting:
            if self._holder(name) != holder:
                return False
            del self.locks[name]
            return True

    def _holder(self, name: bytes) -> bytes | None:
        holder, until = self.locks.get(name, (None, 0.0))
        return holder if time.monotonic() < until else None

    def hit(
        self, name: bytes, algorithm: str, rate: Rate, cost: int, more: int = 0,
        counts: bool = True,
    ) -> list[Hit]:
        """Count a hit of a rate limit, or look only: see `tiers.store`."""
        self._begin()
        with self._hitting:
            there, ask, now = self._look(name), ALGORITHMS[algorithm], self.now_ns()
            state = there.data if there else b""
            found = ask(rate, state, now, cost)
            answers = [(cost, found)] if counts else [(cost, found), (0, ask(rate, state, now, 0))]
            if counts and found.allowed:
                cost += min(more, found.remaining // SHARE)
                found = ask(rate, state, now, cost)
                answers = [(cost, found)]
                self._put(name, found.state, found.lasts_ns / 1e9)
        return [Hit(units * one.allowed, *one[1:4]) for units, one in answers]

    def close(self) -> None:
        """Do nothing."""
