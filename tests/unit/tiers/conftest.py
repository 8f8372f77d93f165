"""Tiers over a store in this process, and over a redis-server; two machines are two maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shmmap import ENGINE, ShmMap, StoreUnavailable, Tiered
from shmmap.testing import LocalStore
from shmmap.tiers.draining import Part

from ...support.redis_cluster import Cluster
from ...support.redis_server import RedisServer
from ...support.waiting import LIMIT_S as LIMIT_S
from ...support.waiting import until as until


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A redis-server for all tests that leave it as it is."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def server(tmp_path: Any) -> Iterator[RedisServer]:
    """A redis-server of this test's own."""
    made = RedisServer(tmp_path)
    yield made
    made.kill()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Redis Cluster for all tests that leave it as it is."""
    made = Cluster(tmp_path_factory.mktemp("cluster") / "nodes")
    yield made
    made.close()


@pytest.fixture
def own(tmp_path: Any) -> Iterator[Callable[..., Cluster]]:
    """Start clusters of this test's own."""
    made: list[Cluster] = []

    def start_one(**options: Any) -> Cluster:
        made.append(Cluster(tmp_path / f"cluster{len(made)}", **options))
        return made[-1]

    yield start_one
    for one in made:
        one.close()


@pytest.fixture(params=["fake", "redis", "cluster"])
def store(request: pytest.FixtureRequest) -> Any:
    """What a tier is given as its store."""
    if request.param == "fake":
        return LocalStore()
    if ENGINE == "pure":
        pytest.skip("what a server is asked is the same with either engine")
    if request.param == "cluster":
        client = request.getfixturevalue("cluster").client()
        client.flushall()
        return client
    client = request.getfixturevalue("running").client()
    client.flushall()
    return client


@pytest.fixture
def tiers(name: str) -> Iterator[Callable[..., Tiered]]:
    """Make tiers: a machine of its own for each, unless it is given a map; closed at the end."""
    made: list[Tiered] = []
    maps: list[Any] = []

    def tier(store: Any, m: Any = None, **options: Any) -> Tiered:
        if m is None:
            m = ShmMap(f"{name}-{len(maps)}", size="1MB", codec=options.pop("codec", None))
            maps.append(m)
        made.append(Tiered(m, store, **options))
        return made[-1]

    yield tier
    for one in made:
        one.close()
    for m in maps:
        m.unlink()
        m.close()


@pytest.fixture
def behind(tiers: Any, name: str) -> Iterator[Callable[..., Tiered]]:
    """Make tiers that write behind: a machine of its own for each, unless they share a journal."""
    journals: list[Any] = []

    def tier(store: Any, journal: Any = None, m: Any = None, **options: Any) -> Tiered:
        if journal is None:
            room = options.pop("room", "1MB")  # of one shard, so that it is full when all is
            journal = ShmMap(f"{name}-j{len(journals)}", size=room, shards=1)
            journals.append(journal)
        return tiers(store, m, write="behind", journal=journal, **options)

    yield tier
    for journal in journals:
        journal.unlink()
        journal.close()


def part_of(tier: Tiered, has_lease: bool = False) -> Part:
    """Return another process's part in carrying what waits. `has_lease`: it carries, for good."""
    mine: Any = tier._behind
    part = Part(mine.journal, tier.store, tier._writing, mine.part._clock)
    if has_lease:
        part._renewed = 1 << 62
    return part


def listens(tier: Tiered) -> Tiered:
    """Wait until somebody listens for the tier's machine."""
    until(lambda: tier.report().proven_s < 10)
    return tier


def copied(tier: Tiered, key: Any, value: Any) -> Tiered:
    """Write a key, and have this machine copy it once the news of the write has come: it would take
    the copy out. Of a tier whose own process listens."""
    listens(tier)
    before = tier.report().changes
    tier[key] = value
    until(lambda: tier.report().changes > before)
    assert tier[key] == value
    return tier


def answers(tier: Tiered) -> Any:
    """Return what "a" holds; None: the store cannot be asked."""
    try:
        return tier["a"]
    except StoreUnavailable:
        return None
