"""If a thousand threads of eight processes miss one key at once, how often is it computed?"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ...core.peer import Peer, unique_name
from ...core.progress import Progress
from ...core.results import OURS, Row
from ...core.scenario import Plot, Scenario, Setup, take_turns
from ...load.worker_pool import Work, WorkerPool
from ...peers import DiskCache, Redis
from ...peers.own_map import remove
from ..families import SINGLE_FLIGHT

PROCESSES, THREADS = 8, 125
COMPUTING_S = 0.1  # what the factory takes
CONNECTIONS = 50  # of a process to redis, which is asked to take 512 in all
Compute = Callable[[str], str]
Get = Callable[[str], str]


class Way:
    """One way to have something computed once. Subclasses make a store, and open it in workers."""

    name: str
    setting: str
    slow: bool = False  # takes half a minute for one key

    def make(self) -> Any:
        """Make a store; return what workers open it by."""

    def open(self, address: Any, compute: Compute) -> Get:
        """Return what a worker's threads call."""
        raise NotImplementedError

    def close(self) -> None:
        """Remove the store."""


class GetOrSet(Way):
    """The map's own."""

    name = OURS
    setting = "get_or_set"

    def make(self) -> Any:
        import shmmap

        self.m = shmmap.ShmMap.create(unique_name(), size="4MB", ephemeral=True)
        return self.m.name

    def open(self, address: Any, compute: Compute) -> Get:
        import shmmap

        m = shmmap.ShmMap.attach(address)
        return lambda key: m.get_or_set(key, lambda: compute(key))

    def close(self) -> None:
        remove(self.m)


class EachForItself(GetOrSet):
    """What happens without."""

    name = "get, then set"
    setting = "the map, without single flight"

    def open(self, address: Any, compute: Compute) -> Get:
        import shmmap

        m = shmmap.ShmMap.attach(address)

        def get(key: str) -> str:
            value = m.get(key)
            if value is None:
                value = m[key] = compute(key)
            return str(value)

        return get


class PerProcess(Way):
    """A cache in each process."""

    name = "cachetools.cached"
    setting = "a dict and a threading.Condition in each process"

    def open(self, address: Any, compute: Compute) -> Get:
        import cachetools

        cached: Get = cachetools.cached({}, condition=threading.Condition())(compute)
        return cached


class OfPeer(Way):
    """A store that the other benchmarks have."""

    kind: type[Peer]

    def make(self) -> Any:
        self.peer = self.kind(1_000)
        return self.peer.address

    def close(self) -> None:
        self.peer.close()


class RedisLock(OfPeer):
    """redis-py's lock, and a second look under it."""

    name = "redis"
    setting = "redis-py's Lock, then get again; 50 connections a process"
    kind = Redis

    def open(self, address: Any, compute: Compute) -> Get:
        import redis

        pool = redis.BlockingConnectionPool(
            max_connections=CONNECTIONS, timeout=60,
            connection_class=redis.UnixDomainSocketConnection, path=address,
        )
        client: Any = redis.Redis(connection_pool=pool)

        def get(key: str) -> str:
            value = client.get(key)
            if value is None:
                with client.lock("lock:" + key, timeout=60):
                    value = client.get(key)
                    if value is None:
                        value = compute(key).encode()
                        client.set(key, value)
            return str(value.decode())

        return get


class DiskCacheBarrier(OfPeer):
    """diskcache's barrier between two memoizations, as its documentation has it."""

    name = "diskcache.Cache"
    setting = "memoize, barrier with a Lock, memoize; in full runs only, as it takes so long"
    kind = DiskCache
    slow = True

    def open(self, address: Any, compute: Compute) -> Get:
        import diskcache

        cache = self.kind.attach(address).handle

        @cache.memoize(name="computed")  # type: ignore[untyped-decorator,unused-ignore]
        @diskcache.barrier(cache, diskcache.Lock, name="barrier")
        @cache.memoize(name="computed")
        def get(key: str) -> str:
            return compute(key)

        return get  # type: ignore[no-any-return]


_ALL = (GetOrSet(), EachForItself(), PerProcess(), RedisLock(), DiskCacheBarrier())
WAYS: dict[str, Way] = {way.name: way for way in _ALL}


class StampedeJob(NamedTuple):
    """A pool's job: in each stretch every thread of every worker wants the same new key."""

    way: str
    address: Any

    def begin(self, index: int) -> Work:
        """Open the store."""
        return Wanting(self)


class Served(NamedTuple):
    """What a worker saw: factory calls, ns until its last thread was served, what was wrong."""

    calls: int
    last_ns: int
    problem: str


class Wanting:
    """The threads of one process."""

    def __init__(self, job: StampedeJob) -> None:
        self.turn = 0
        self.calls: list[str] = []
        self.get = WAYS[job.way].open(job.address, self.compute)

    def compute(self, key: str) -> str:
        """Be the factory."""
        self.calls.append(key)
        time.sleep(COMPUTING_S)
        return key + "!"

    def run(self, until_ns: int) -> Served:
        """Want the next key with all threads."""
        self.turn += 1
        self.calls.clear()
        key, wrong = f"wanted-{self.turn}", []

        def want() -> None:
            try:
                if (value := self.get(key)) != key + "!":
                    wrong.append(f"{key} is {value!r}")
            except Exception as error:
                wrong.append(f"{type(error).__name__}: {error}")

        threads = [threading.Thread(target=want) for _ in range(THREADS)]
        started = time.monotonic_ns()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return Served(len(self.calls), time.monotonic_ns() - started, "; ".join(wrong[:1]))

    def close(self) -> None:
        """Nothing: the process ends."""


class Stampede(NamedTuple):
    """All ways, in turns."""

    name: str = "cache-crowd"
    title: str = (
        f"{PROCESSES * THREADS:,} threads of {PROCESSES} processes miss one key at once; computing "
        f"takes {COMPUTING_S * 1e3:.0f} ms"
    )
    family: str = SINGLE_FLIGHT
    quick: bool = False
    plots: tuple[Plot, ...] = (
        Plot("", "A thousand misses of one key: calls of the factory", "", "calls", "y"),
        Plot("served", "A thousand misses of one key: until all are served", "", "ms", "y"),
    )

    def ways(self, setup: Setup) -> list[Way]:
        """List those that can run."""
        present = {peer.name for peer in setup.peers}
        return [
            way for way in WAYS.values()
            if (not isinstance(way, OfPeer) or way.kind.name in present)
            and (setup.scale.patient or not way.slow)
        ]

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return len(self.ways(setup)) * setup.scale.experiment_repetitions

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Have all threads come at once, once a repetition."""
        lanes = (StampedeLane(self.name, way) for way in self.ways(setup))
        return take_turns(lanes, setup.scale.experiment_repetitions, progress)


class StampedeLane:
    """One way, and its processes."""

    def __init__(self, scenario: str, way: Way) -> None:
        self.scenario, self.way = scenario, way
        self.served: list[list[Served]] = []
        address = way.make()
        try:
            self.pool = WorkerPool(StampedeJob(way.name, address), PROCESSES)
        except BaseException:
            way.close()
            raise

    def repeat(self, number: int) -> None:
        """Want one key."""
        self.served.append(self.pool.run(0.0))

    def row(self) -> Row:
        """Return what was counted."""
        wrong = [each.problem for turn in self.served for each in turn if each.problem]
        return Row.of(
            self.scenario, self.way.name,
            {
                "calls": [float(sum(each.calls for each in turn)) for turn in self.served],
                "ms": [max(each.last_ns for each in turn) / 1e6 for turn in self.served],
            },
            "; ".join(wrong[:1]), facts={"how": self.way.setting},
        )

    def close(self) -> None:
        """End the workers and remove the store."""
        self.pool.close()
        self.way.close()


SCENARIOS: tuple[Scenario, ...] = (Stampede(),)
