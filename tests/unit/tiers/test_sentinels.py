"""Who is master is asked again and again: a failover is noticed while the old master answers."""

from __future__ import annotations

from typing import Any

import pytest

from shmmap import ENGINE, StoreUnavailable

from ...support.redis_sentinel import SERVICE, Server
from ...support.redis_sentinel import Sentinel as RealSentinel
from .conftest import answers, listens, until

redis = pytest.importorskip("redis")
from shmmap.tiers import redis_sentinel  # noqa: E402
from shmmap.tiers.redis_feed import RedisFeed  # noqa: E402
from shmmap.tiers.redis_sentinel import Sentinels  # noqa: E402
from shmmap.tiers.redis_wire import Wire  # noqa: E402

OLD, NEW = ("10.0.0.1", 1), ("10.0.0.2", 2)


class Sentinel:
    """One sentinel: what it says, or that it cannot be reached."""

    def __init__(self, address: tuple[str, int] | None, epoch: int = 0) -> None:
        self.address, self.epoch = address, epoch

    def sentinel_master(self, service: str) -> dict[str, Any]:
        """Return what it says."""
        if self.address is None:
            raise redis.ConnectionError("cut off")
        return {"ip": self.address[0], "port": self.address[1], "config-epoch": self.epoch}


class Manager:
    """redis-py's Sentinel: asks the first one."""

    def __init__(self, *sentinels: Sentinel) -> None:
        self.sentinels = list(sentinels)

    def discover_master(self, service: str) -> Any:
        """Return what the first one says."""
        return self.sentinels[0].address


class Connection:
    """A connection to a server."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.host, self.port = address
        self.is_closed = False

    def connect(self) -> None:
        """Do nothing."""

    def can_read(self, timeout: float) -> bool:
        """Return that nothing is due."""
        return False

    def pack_commands(self, commands: Any) -> Any:
        """Return them."""
        return commands

    def send_packed_command(self, commands: Any) -> None:
        """Do nothing."""

    def read_response(self, **options: Any) -> bytes:
        """Return where it is."""
        return self.host.encode()

    def disconnect(self) -> None:
        """Note it."""
        self.is_closed = True


def test_the_latest_election_counts():
    late = Sentinel(OLD, 1)  # one that was cut off, and is asked first
    sentinels = Sentinels(Manager(late, Sentinel(None), Sentinel(NEW, 2)), "mymaster")
    assert sentinels.discover_master("mymaster") == OLD
    assert sentinels.is_current(Connection(OLD)) and sentinels.is_current(Connection(NEW))
    sentinels.look()
    assert sentinels.discover_master("mymaster") == NEW
    assert sentinels.is_current(Connection(NEW)) and not sentinels.is_current(Connection(OLD))
    sentinels._manager.sentinels = [late]
    sentinels.look()
    assert sentinels.discover_master("mymaster") == NEW, "an earlier election is none"
    sentinels._manager.sentinels = [Sentinel(None)]
    sentinels.look()
    assert sentinels.is_current(Connection(NEW)), "nobody says anything"


@pytest.fixture
def clock(monkeypatch):
    """Let a test say what time it is."""
    now = [100.0]
    monkeypatch.setattr(redis_sentinel, "monotonic", lambda: now[0])
    return now


def look_for(sentinels: Sentinels, clock: list[float], seconds: int) -> None:
    """Look once a second."""
    for _ in range(seconds):
        clock[0] += 1.0
        sentinels.look()


def test_sentinels_that_were_all_made_anew_count_after_a_while(clock):
    first, second, third = (Sentinel(NEW, 7) for _ in range(3))
    sentinels = Sentinels(Manager(first, second, third), "mymaster")
    sentinels.look()
    first.epoch = second.epoch = 0
    first.address = second.address = OLD
    look_for(sentinels, clock, 60)
    assert sentinels.is_current(Connection(NEW)), "the third one still knows of the election"
    third.address = None
    second.address = None
    look_for(sentinels, clock, 60)
    assert sentinels.is_current(Connection(NEW)), "one of three may be cut off with this machine"
    second.address = OLD
    look_for(sentinels, clock, 9)
    assert sentinels.is_current(Connection(NEW))
    third.address = NEW  # it answers once in between
    look_for(sentinels, clock, 1)
    third.address = None
    look_for(sentinels, clock, 10)
    assert sentinels.is_current(Connection(NEW))
    look_for(sentinels, clock, 1)
    assert sentinels.is_current(Connection(OLD)) and not sentinels.is_current(Connection(NEW))
    assert sentinels.discover_master("mymaster") == OLD
    first.address, first.epoch = NEW, 1
    look_for(sentinels, clock, 1)
    assert sentinels.discover_master("mymaster") == NEW, "elections count again"


@pytest.mark.skipif(ENGINE == "pure", reason="the same with either engine")
def test_a_tier_goes_on_after_its_sentinels_were_made_anew(tiers, tmp_path, monkeypatch):
    monkeypatch.setattr(redis_sentinel, "FORGET_S", 2.0)
    made: list[Any] = []

    def start(kind: Any, *given: Any) -> Any:
        made.append(kind(tmp_path / f"server{len(made)}", *given))
        return made[-1]

    try:
        one = start(Server)
        other = start(Server, one)
        sentinel = start(RealSentinel, one)
        until(lambda: sentinel.state()["num-slaves"] == 1)
        tier = listens(tiers(redis.sentinel.Sentinel([("127.0.0.1", sentinel.port)]).master_for(
            SERVICE), max_staleness=60))
        tier["a"] = 1
        until(lambda: other.client.dbsize() > 0 and other.client.info("replication")[
            "master_link_status"] == "up")
        until(sentinel.fails_over)
        until(lambda: other.role() == "master" and sentinel.state()["config-epoch"] > 0)
        until(lambda: answers(tier) == 1 and tier.store._sentinels._known[0] > 0)
        sentinel.kill()
        one.client.replicaof("NO", "ONE")
        other.client.replicaof("127.0.0.1", one.port)
        until(lambda: one.role() == "master")
        anew = start(RealSentinel, one, sentinel.port)
        assert anew.state()["config-epoch"] == 0
        until(lambda: tier.store._sentinels._known[0] == 0, 10)
        epochs = tier.report().epochs
        until(lambda: tier.report().is_listening and tier.report().proven_s < 1)
        tier["a"] = 2
        assert tier["a"] == 2 and one.client.exists("shmmap:a")
        until(lambda: tier.report().trouble == "")
        assert tier.report().epochs >= epochs
    finally:
        for server in made:
            server.kill()


def test_connections_to_an_old_master_are_let_go():
    manager = Manager(Sentinel(OLD, 1))
    sentinels = Sentinels(manager, "mymaster")
    made: list[Connection] = []

    def make() -> Connection:
        made.append(Connection(sentinels.discover_master("mymaster")))
        return made[-1]

    wire = Wire(make, sentinels.is_current)
    sentinels.look()
    assert wire.ask(("GET", "a")) == wire.ask(("GET", "a")) == [b"10.0.0.1"] and len(made) == 1
    manager.sentinels = [Sentinel(NEW, 2)]
    sentinels.look()
    assert wire.ask(("GET", "a")) == [b"10.0.0.2"]
    assert made[0].is_closed and not made[1].is_closed


def test_the_feed_of_an_old_master_ends():
    sentinels = Sentinels(Manager(Sentinel(OLD, 1)), "mymaster")
    feed = RedisFeed.__new__(RedisFeed)
    feed._connection, feed._is_current = Connection(OLD), sentinels.is_current
    sentinels.look()
    sentinels._manager.sentinels = [Sentinel(NEW, 2)]
    sentinels.look()
    with pytest.raises(StoreUnavailable, match="another server is master"):
        feed.next(0)
