"""Limiters of two machines that share one redis, and a process that hits one beside others."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

from ..core.results import OURS
from .rate_limits import CLIENTS, EACH, ENDLESS, LIMIT, PER_S, Hit
from .worker_pool import Work

SHARES = "shmmap, in shares"
ALONE = "shmmap, the map alone"
SCRIPT = "redis-py, a script"
LIMITS = "limits, redis"
KINDS = (OURS, SHARES, ALONE, SCRIPT, LIMITS)
EXACT = (OURS, SCRIPT, LIMITS)  # that let as many through as the limit says, from all machines
PREFIX = "bench:"
EVERY = 4  # one in so many hits is timed
COUNT = """
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return count <= tonumber(ARGV[1]) and 1 or 0
"""


def opened(kind: str, address: str, machine: str, stack: ExitStack) -> Callable[[int], Hit]:
    """Open it in this process; the result makes the `hit` of a limit. The stack closes it.
    `machine`: the name of its map."""
    import redis

    if kind in (OURS, SHARES, ALONE):
        import shmmap

        m: Any = shmmap.ShmMap(machine)
        stack.callback(m.close)
        if kind == ALONE:
            return lambda limit: shmmap.RateLimiter(m, limit, PER_S, algorithm="fixed").hit
        tier = shmmap.Tiered(m, f"unix://{address}", prefix=PREFIX)
        stack.callback(tier.close)
        how = "shares" if kind == SHARES else "store"
        return lambda limit: shmmap.RateLimiter(
            tier, limit, PER_S, algorithm="fixed", machines=how).hit
    if kind == LIMITS:
        from limits import RateLimitItemPerDay, strategies
        from limits.storage import storage_from_string

        storage: Any = storage_from_string(f"redis+unix://{address}")
        stack.callback(storage.storage.close)
        limiter = strategies.FixedWindowRateLimiter(storage)
        return lambda limit: lambda key: limiter.hit(RateLimitItemPerDay(limit), key)
    client = redis.Redis(unix_socket_path=address)
    stack.callback(client.close)
    count: Any = client.register_script(COUNT)
    return lambda limit: lambda key: count(keys=[PREFIX + key], args=[limit, PER_S])


class LimitsJob(NamedTuple):
    """A pool's job, of two turns: hit many clients' keys for a while; then, with a limit, one key
    so many times. Worker n is of machine n modulo their number."""

    kind: str
    address: str
    machines: tuple[str, ...]

    def begin(self, index: int) -> Work:
        """Open the limiter, and hit every client's key once."""
        return Hitting(self, index)


class Hits(NamedTuple):
    """What a worker did: how many hits, how many were let through, what some of them took, when it
    began and ended."""

    hits: int
    passed: int
    took_ns: list[int]
    begun: int
    ended: int


class Hitting:
    """One process."""

    def __init__(self, job: LimitsJob, index: int) -> None:
        self.stack = ExitStack()
        machine = job.machines[index % len(job.machines)]
        make = opened(job.kind, job.address, machine, self.stack)
        self.free, self.tight = make(ENDLESS), make(LIMIT)
        self.turn = 0
        for client in CLIENTS:
            self.free(client)

    def run(self, until_ns: int) -> Hits:
        """Take the next turn."""
        self.turn += 1
        hits = passed = 0
        took: list[int] = []
        now = time.monotonic_ns
        begun = ended = now()
        if self.turn % 2 == 0:
            key, tight = f"wanted-{self.turn}", self.tight
            passed = sum(1 for _ in range(EACH) if tight(key))
            return Hits(EACH, passed, took, begun, now())
        free = self.free
        for client in itertools.cycle(CLIENTS):
            start = now() if hits % EVERY == 0 else 0
            passed += bool(free(client))
            hits += 1
            if start:
                ended = now()
                took.append(ended - start)
                if ended >= until_ns:
                    break
        return Hits(hits, passed, took, begun, ended)

    def close(self) -> None:
        """Close it."""
        self.stack.close()
