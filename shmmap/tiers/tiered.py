"""Tiered: the interface of a map, the truth in a store that several machines share.

    a read      the machine's copy in the map, if it is as fresh as was asked for; else the store
    a write     the store, and then the machine's copy is taken out of the map
    meanwhile   one process of the machine hears what changes in the store, and takes that out

See `freshness` for how old a copy can be, `asking` for how it comes into the map, `watching` for
who listens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from .._public import public
from ..checks import Key, Value, seconds
from ..errors import ShmMapError
from ..map import ShmMap
from ..values.codecs import coder_of
from . import caching, flights
from .asking import Asking
from .behind import Behind, Waiting, check_journal
from .copies import tag_of
from .freshness import Freshness
from .machine_clock import MachineClock
from .parts import Parts
from .reads import ns, read_consistency
from .reconciled import TierReconciled, read_tombstones
from .stamps import Stamps
from .store import Store
from .store_keys import StoreKeys, is_text
from .store_lock import LEASE_S, TierLock
from .stored import Writing
from .watching import Part
from .writes import DEFAULT, read_ttl

if TYPE_CHECKING:
    from ..checks import Seconds

WRITES = ("through", "behind")
_PROOFS, _PROOF_S = 4, 0.25  # in the time of the bound, and how often at least
REFUSED = {
    "clear": "the store's keys are every machine's; tier.map.clear() empties this machine's copies",
    "edit": "write tier.apply(key, function), or hold tier.lock(key)",
    "popitem": "nobody knows all keys of the store",
    "resize": "tier.map.resize(...) changes this machine's map",
    "setdefault": "write tier.get_or_set(key, lambda: value), or tier.add(key, value)",
    "snapshot": "a store has no one instant; tier.map.snapshot() is of this machine's copies",
}
_LISTINGS = ("items", "keys", "values")


class Seen(NamedTuple):
    """What a tier's process has seen.

    Attributes:
        asked: times that this process has asked the store.
        kept: copies that this process put into the map.
        changes: changes that this process heard of, and took out of the map.
        epochs: times that it began to listen, or heard that everything had changed.
        is_listening: whether it is this process that listens for the machine.
        proven_s: seconds ago up to which this machine has taken out all that changed; inf: never.
        trouble: what went wrong last in this process with listening, or with carrying what waits
            to the store; "": nothing.
        waiting, waiting_s: keys that this machine has written, and the store does not have yet, and
            for how many seconds the oldest of them waits.
    """

    asked: int
    kept: int
    changes: int
    epochs: int
    is_listening: bool
    proven_s: float
    trouble: str
    waiting: int = 0
    waiting_s: float = 0.0


@public
class Tiered(TierReconciled):
    """A store that several machines share, with a map as this machine's one near cache.

    Args:
        m: the map: best of this tier alone, since tiers push each other's copies out. Its codec is
            what the store's bytes are written by: "json" and "msgpack" are read by others; "auto"
            trusts everybody who may write to the store.
        store: a URL ("redis://...", "redis+cluster://host:port,host2:port2"), a client
            `redis.Redis(..)`, also one of a sentinel's `master_for(...)`, or
            `redis.RedisCluster(..)`, or what does as `shmmap.tiers.store.Store` says.
        prefix: what the store's names begin with: other programs' names should not.
        ttl: seconds that a write is kept by the store; None: for ever.
        consistency: of reads: see the table in docs/guide/tiered.md. "bounded" (default): what was
            true within the last max_staleness seconds. "session": the copy that there is, as long
            as somebody listens; never older than what this process has seen. "linearizable": asks
            the store. Own writes are seen at once by the whole machine with each of them.
        max_staleness: seconds; with "bounded" (default 1.0).
        stale_if_error: where the store cannot be reached, so many seconds more.
        timeout: seconds that a call waits for the store; default: the client's, or 1.0.
        write: "through" (default): a write is done when the store has it. "behind": when this
            machine has it, in the journal; one process of the machine carries it to the store.
        journal: with write="behind": a map for what the store does not have yet, of this tier
            alone; on_full="raise", which is a map's default. Where it is full, a write goes to the
            store itself, and raises what that raises.
        tombstones: seconds that the store keeps of a removed key when it was removed, for
            `reconcile`; the same in all tiers of the prefix. None (default): nothing is kept.

    Raises:
        StoreRefused, StoreUnavailable: from operations, never from making it.

    >>> tier = Tiered(m, "redis://localhost", prefix="shop:")     # doctest: +SKIP
    >>> tier["user:7"] = {"name": "Ada"}                          # doctest: +SKIP
    """

    def __init__(
        self, m: ShmMap, store: Store | Any, *, prefix: str = "shmmap:",
        ttl: Seconds | None = None, consistency: str = "bounded",
        max_staleness: Seconds | None = None, stale_if_error: Seconds = 0.0,
        timeout: Seconds | None = None, write: str = "through", journal: ShmMap | None = None,
        tombstones: Seconds | None = None,
    ) -> None:
        if not isinstance(m, ShmMap):
            raise TypeError(f"m={m!r} must be the handle of a map, not its name")
        if m._reading[2] != "linearizable":
            raise ValueError("m must be opened with consistency=\"linearizable\": how old an "
                             "answer may be is for the tier to say")
        if not isinstance(prefix, str):
            raise TypeError(f"prefix must be a str, not {type(prefix).__name__}")
        if not prefix or not is_text(prefix):
            raise ValueError(f"prefix={prefix!r} must be text, and not empty: with none the tier "
                             "would take every name in the store for one of its own")
        if write not in WRITES:
            raise ValueError(f"write={write!r} must be one of {', '.join(WRITES)}")
        if write == "behind":
            check_journal(m, journal)
        elif journal is not None:
            raise ValueError('journal= is for write="behind"')
        self.map = m
        self.prefix = prefix
        self.journal = journal
        self.ttl_s = read_ttl(ttl)
        self.consistency, self._bound_ns = read_consistency(consistency, max_staleness)
        self.max_staleness = self._bound_ns / 1e9 if consistency == "bounded" else None
        self._stale_ns = ns(seconds(stale_if_error, "stale_if_error"), "stale_if_error")
        self.store: Store = store if hasattr(store, "feed") else _redis(store, timeout)
        own = m._own_codec
        clock = None if journal is None else MachineClock(journal)
        stamps = Stamps() if clock is None else Stamps(clock.now, clock.met)
        writing = Writing(coder_of(m.codec) if own is None else own, stamps)
        names = StoreKeys(prefix)
        owner = self.store.where, prefix
        # A tier that does not look into the journal may copy what is older than what waits there.
        self._tag = tag_of(owner if journal is None else (*owner, journal.name))
        self._freshness = Freshness(m, owner)
        self._writing, self._names = writing, names
        self._asking = Asking(m, self.store, names, writing, self._freshness, self._tag,
                              self._forget)
        self._stamped = writing.is_stamped
        self.tombstone_s = read_tombstones(tombstones, m, writing)
        interval_s = _PROOF_S
        if self._bound_ns >= 0:
            interval_s = max(0.02, min(interval_s, self._bound_ns / 1e9 / _PROOFS))
        freshness, store = self._freshness, self.store
        self._watch = Parts(lambda: Part(m, store, names, freshness, interval_s))
        self._behind = None
        if journal is not None and clock is not None:
            tag = tag_of((*owner, _coded(m)))
            self._behind = Behind(journal, tag, store, names, writing, clock, self.tombstone_s)
            self._asking.pending = self._behind.pending
        self._begin_reading()

    def __repr__(self) -> str:
        return (f"<{type(self).__name__}: map {self.map.name!r}, store {self.store.where}, prefix "
                f"{self.prefix!r}, {self.consistency}>")

    def get_or_set(
        self, key: Key, factory: Callable[[], Value], ttl: Seconds | None = DEFAULT, *,
        timeout: Seconds | None = None,
    ) -> Value:
        """Return the value of a key; if the store has none, `factory()`, stored for all: of all
        machines that miss it at once, one process computes it.

        Where the store or the map cannot be used, the value is computed and not stored: neither
        fails the call. If the process that computes dies, another one of its machine, or another
        machine, computes after 3 seconds at most.

        Raises:
            LockTimeout: another one has not computed it within `timeout` seconds.
        """
        return flights.get_or_set(self, key, factory, ttl, timeout)

    def cached(
        self, ttl: Seconds | None = DEFAULT, key: Callable[..., Key] | None = None, *,
        version: Key = None, prefix: str | None = None, timeout: Seconds | None = None,
    ) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
        """Keep a function's results for all machines: of all calls that need one at once, one
        computes it.

        Arguments as for `shmmap.cached`, whose keys these are; methods have keys, coroutine
        functions are refused. What is decorated has `key_for(...)` and `invalidate(...)`, called
        as the function is. Neither store nor map fails a call: see `get_or_set`.
        """
        return caching.cached(self, ttl, key, version, prefix, timeout)

    def lock(
        self, key: Key, timeout: Seconds | None = None, lease: Seconds = LEASE_S
    ) -> TierLock:
        """Return a lock of all machines: see TierLock."""
        self._check_open()
        settle = None if self._behind is None else self._behind.settle_all
        return TierLock(self.map, self.store, self._names, "lock", key, timeout, lease, settle)

    def report(self) -> Seen:
        """Return what this process has seen, and how fresh the machine's copies are."""
        proven = self._freshness.read().proven
        part, asking, behind = self._watch.part, self._asking, self._behind
        waiting = Waiting(0, 0.0) if behind is None else behind.waiting()
        trouble = part.trouble or ("" if behind is None else behind.part.trouble)
        return Seen(
            asking.asked, asking.kept, part.changes, part.epochs, part.is_listening,
            (self._now() - proven) / 1e9 if proven else float("inf"), trouble,
            waiting.keys, waiting.seconds,
        )

    def flush(self, timeout: Seconds | None = None) -> None:
        """Wait until the store has all that this machine has written before; with write="through"
        it has.

        Args:
            timeout: seconds; None: for ever.

        Raises:
            StoreUnavailable: it has not within that time; what is left waits in the journal.
        """
        self._check_open()
        if self._behind is not None:
            timeout = None if timeout is None else seconds(timeout, "timeout")
            if timeout is not None and timeout != timeout:
                raise ValueError("timeout=nan must be seconds")
            self._behind.flush(timeout)

    def close(self) -> None:
        """Let this process listen no more, and its connections go; operations raise MapClosed from
        now on. The map stays open. What waits in a journal is left to other processes, and where
        it has waited for a second or more the logger "shmmap" is told. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self._forget()  # so that what comes looks more closely
        self._watch.stop()
        if self._behind is not None:
            self._behind.stop()
            self._tell_what_waits(self._behind)
        self.store.close()

    def _tell_what_waits(self, behind: Behind) -> None:
        """Tell that nobody may be carrying what waits."""
        with suppress(ShmMapError):
            waits = behind.waiting()
            if waits.seconds >= 1:
                logging.getLogger("shmmap").warning(
                    "map %r: %s writes wait for the store %s, the oldest for %.0f s; they are "
                    "carried by another process of this machine that has this tier open, or by "
                    "the next that opens it. If the map is unlinked, or the machine ends, they "
                    "are lost", behind.journal.map.name, f"{waits.keys:,}", self.store.where,
                    waits.seconds)

    def __enter__(self) -> Tiered:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Tiered has connections, and cannot be pickled: make one in each process")

    def __iter__(self) -> NoReturn:
        raise TypeError(_refusal("be iterated", "nobody knows all keys of the store; tier.map "
                                 "has this machine's copies"))

    def __len__(self) -> NoReturn:
        raise TypeError(_refusal("be counted", "nobody knows all keys of the store"))

    def __bool__(self) -> bool:
        return True

    def __getattr__(self, name: str) -> NoReturn:
        if name in _LISTINGS:
            raise AttributeError(_refusal(f"list {name}", "nobody knows all keys of the store; "
                                          f"tier.map.{name}() has this machine's copies"))
        if name in REFUSED:
            raise AttributeError(_refusal(name, REFUSED[name]))
        raise AttributeError(f"'Tiered' object has no attribute {name!r}")


def _refusal(what: str, why: str) -> str:
    return f"a Tiered cannot {what}: {why}"


def _coded(m: ShmMap) -> str:
    """Return what tells records that one codec has made from those of others."""
    return m.codec if isinstance(m.codec, str) else "own"


def _redis(store: Any, timeout: Seconds | None) -> Store:
    from .redis_store import store_of

    return store_of(store, None if timeout is None else seconds(timeout, "timeout"))
