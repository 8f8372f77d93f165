"""Limiters of rates: how each is opened, and a process that hits one beside others."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

from ..core.peer import Peer, unique_name
from ..core.results import OURS
from ..peers import Memcached, Redis
from ..peers.own_map import remove
from .worker_pool import Work

Hit = Callable[[str], Any]  # what it returns is true where the hit was let through

STRATEGIES = {"fixed": "FixedWindowRateLimiter", "sliding": "SlidingWindowCounterRateLimiter"}
ALGORITHMS = (*STRATEGIES, "bucket")  # the last one is the RateLimiter's alone
LIMITS_MAP, LIMITS_MEMORY = "limits, shmmap", "limits, memory"
SERVED: dict[str, type[Peer]] = {"limits, redis": Redis, "limits, memcached": Memcached}
KINDS = (OURS, LIMITS_MAP, *SERVED, LIMITS_MEMORY)
EXACT = (OURS, LIMITS_MAP)  # that let as many through as the limit says, and not one more
PER_S = 86_400  # a limit's time: none of it ends within a run
ENDLESS = 10**9  # a limit that nobody reaches
LIMIT, EACH = 1_000, 2_000  # hits that are let through; those of each process
CLIENTS = [f"client-{number:04d}" for number in range(1_000)]


def make_store(kind: str, stack: ExitStack) -> str:
    """Make what limiters of this kind count in; return where it is. The stack removes it."""
    if kind in SERVED:
        peer = SERVED[kind](len(CLIENTS))
        stack.callback(peer.close)
        return str(peer.address)
    if kind == LIMITS_MEMORY:
        return ""
    import shmmap

    m = shmmap.ShmMap.create(unique_name(), size="16MB", ephemeral=True)
    stack.callback(remove, m)
    return m.name


def opened(kind: str, address: str, stack: ExitStack) -> Callable[[str, int], Hit]:
    """Open a store in this process; the result makes the `hit` of an algorithm with a limit. The
    stack closes the store."""
    if kind in SERVED or kind == LIMITS_MEMORY:
        return _of_limits(_storage(kind, address, stack))
    import shmmap

    m = shmmap.ShmMap.attach(address)
    stack.callback(m.close)
    if kind == LIMITS_MAP:
        from shmmap.contrib.limits import ShmMapStorage

        return _of_limits(ShmMapStorage(m))
    return lambda algorithm, limit: shmmap.RateLimiter(m, limit, PER_S, algorithm=algorithm).hit


def _storage(kind: str, address: str, stack: ExitStack) -> Any:
    """Open a storage of limits, as its documentation says."""
    from limits.storage import storage_from_string

    schemes = {"limits, redis": "redis+unix://", "limits, memcached": "memcached://"}
    storage: Any = storage_from_string(schemes.get(kind, "memory://") + address)
    if kind in SERVED:
        stack.callback(storage.storage.close)  # its client
    return storage


def _of_limits(storage: Any) -> Callable[[str, int], Hit]:
    """Make what makes the `hit` of limits' strategies."""
    from limits import RateLimitItemPerDay, strategies

    def make(algorithm: str, limit: int) -> Hit:
        limiter = getattr(strategies, STRATEGIES[algorithm])(storage)
        return partial(limiter.hit, RateLimitItemPerDay(limit))

    return make


class RateJob(NamedTuple):
    """A pool's job, of two turns: hit many clients' keys for a while; then, with a limit, one key
    so many times. And so on."""

    kind: str
    algorithm: str
    address: str

    def begin(self, index: int) -> Work:
        """Open the store, and hit every client's key once."""
        return Hitting(self)


class Hits(NamedTuple):
    """What a worker did: how many hits, how many were let through, when it began and ended."""

    hits: int
    passed: int
    begun: int
    ended: int


class Hitting:
    """One process."""

    def __init__(self, job: RateJob) -> None:
        self.stack = ExitStack()
        make = opened(job.kind, job.address, self.stack)
        self.free, self.tight = make(job.algorithm, ENDLESS), make(job.algorithm, LIMIT)
        self.turn = 0
        for client in CLIENTS:
            self.free(client)

    def run(self, until_ns: int) -> Hits:
        """Take the next turn."""
        self.turn += 1
        begun = time.monotonic_ns()
        if self.turn % 2 == 0:
            key, tight = f"wanted-{self.turn}", self.tight
            passed = sum(1 for _ in range(EACH) if tight(key))
            return Hits(EACH, passed, begun, time.monotonic_ns())
        hits = passed = 0
        for client in itertools.cycle(CLIENTS):
            hits += 1
            passed += bool(self.free(client))
            if time.monotonic_ns() >= until_ns:
                break
        return Hits(hits, passed, begun, time.monotonic_ns())

    def close(self) -> None:
        """Close the store."""
        self.stack.close()
