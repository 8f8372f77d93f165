"""Who is master is asked again and again: a failover is noticed while the old master answers."""

from __future__ import annotations

from typing import Any

import pytest

from shmmap import StoreUnavailable

redis = pytest.importorskip("redis")
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
