"""Workers of two machines that share one redis, each kind of cache between them and it.

A machine is a map, or nothing: what its workers have in common. A worker reads by a Zipf law and
now and then writes. Single reads are timed, every EVERY-th of them; the clock's reading is in it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import accumulate, cycle
from typing import Any, NamedTuple

import psutil

from ..core.results import OURS
from .worker_pool import Work

ALONE = "shmmap, the map alone"
BEHIND = "shmmap, write behind"
PLAIN = "redis-py"
CACHED = "redis-py, client-side cache"
KINDS = (OURS, ALONE, PLAIN, CACHED)
PREFIX = "bench:"
EVERY = 4
PLAN = 32_768
SKEW = 0.99
BOUND_S = 1.0
READS_OF_FEW = 16  # keys that nobody writes; what a hit costs is measured with them


def key_of(number: int) -> str:
    """Return a key of 16 characters."""
    return f"key:{number:012}"


class Client(NamedTuple):
    """A kind of cache, opened in one process.

    Attributes:
        get, set: read a key, write one.
        flush: wait until the store has what was written.
    """

    get: Callable[[str], Any]
    set: Callable[[str, bytes], object]
    flush: Callable[[], object] = lambda: None


def opened(kind: str, address: str, machine: str, stack: ExitStack) -> Client:
    """Open it; the stack closes it. `machine`: the name of its map."""
    import redis

    if kind in (OURS, ALONE, BEHIND):
        import shmmap

        m = shmmap.ShmMap(machine)
        stack.callback(m.close)
        if kind == ALONE:
            return Client(m.get, m.set)
        more: dict[str, Any] = {}
        if kind == BEHIND:
            journal = shmmap.ShmMap(f"{machine}-journal", size="32MB", value_size=150)
            stack.callback(journal.close)
            stack.callback(journal.unlink)
            more = {"write": "behind", "journal": journal}
        tier = shmmap.Tiered(m, f"unix://{address}", prefix=PREFIX, max_staleness=BOUND_S, **more)
        stack.callback(tier.close)
        return Client(tier.get, tier.set, tier.flush)
    if kind == CACHED:
        from redis.cache import CacheConfig
        from redis.connection import CacheProxyConnection

        # It asks for Redis 7.4, for reasons of other products; what it needs is there since 6.
        CacheProxyConnection.MIN_ALLOWED_VERSION = "6.0.0"
        kind_of_socket = type("Local", (redis.UnixDomainSocketConnection,), {"host": "", "port": 0})
        client = redis.Redis(connection_pool=redis.ConnectionPool(
            connection_class=kind_of_socket, path=address, protocol=3,
            cache_config=CacheConfig(max_size=1_000_000),
        ))
    else:
        client = redis.Redis(unix_socket_path=address)
    stack.callback(client.close)
    return Client(lambda key: client.get(PREFIX + key),
                  lambda key, value: client.set(PREFIX + key, value))


class Served(NamedTuple):
    """What a worker did in one turn.

    Attributes:
        reads, writes: how many.
        took_ns: of single reads, some of them.
        begun, ended: of the turn.
        private_bytes: what it has alone.
        wrong: answers that were none.
    """

    reads: int
    writes: int
    took_ns: list[int]
    begun: int
    ended: int
    private_bytes: int
    wrong: int


class MachinesJob(NamedTuple):
    """A pool's job: worker n is of machine n modulo their number."""

    kind: str
    address: str
    machines: tuple[str, ...]
    keys: int
    value: bytes
    write_share: float

    def begin(self, index: int) -> Work:
        """Open the cache, and read every key once."""
        return Serving(self, index)


class Serving:
    """One worker."""

    def __init__(self, job: MachinesJob, index: int) -> None:
        self.job = job
        self.stack = ExitStack()
        self.client = opened(
            job.kind, job.address, job.machines[index % len(job.machines)], self.stack
        )
        draw = random.Random(index)
        weights = list(accumulate(1 / (rank + 1) ** SKEW for rank in range(job.keys)))
        numbers = draw.choices(range(job.keys), cum_weights=weights, k=PLAN)
        self.plan = cycle([(key_of(n), draw.random() < job.write_share) for n in numbers])
        for number in range(job.keys):
            self.client.get(key_of(number))

    def run(self, until_ns: int) -> Served:
        """Read and write until then."""
        get, put, value, now = self.client.get, self.client.set, self.job.value, time.monotonic_ns
        took: list[int] = []
        reads = writes = wrong = 0
        begun = ended = now()
        for key, writes_it in self.plan:
            if writes_it:
                put(key, value)
                writes += 1
            elif reads % EVERY:
                wrong += get(key) != value
                reads += 1
            else:
                start = now()
                found = get(key)
                ended = now()
                took.append(ended - start)
                wrong += found != value
                reads += 1
                if ended >= until_ns:
                    break
        private = psutil.Process().memory_full_info().uss
        return Served(reads, writes, took, begun, ended, private, wrong)

    def close(self) -> None:
        """Close the cache."""
        self.stack.close()
