"""A server that does not speak RESP3: what changes is told to another connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shmmap import StoreUnavailable
from shmmap.tiers.redis_redirect import CHANNEL, RedirectFeed
from shmmap.tiers.redis_store import RedisStore
from shmmap.tiers.store import AllChanged, Changed, Proven

from ...support.redis_server import RedisServer
from .conftest import copied, listens, until


@pytest.fixture
def old(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that knows no HELLO."""
    server = RedisServer(tmp_path, "--rename-command", "HELLO", "")
    yield server
    server.kill()


@pytest.fixture
def feed(old: RedisServer) -> Iterator[RedirectFeed]:
    """What a store of it tells."""
    store = RedisStore(old.client(protocol=2))
    made = store.feed(b"p:")
    assert isinstance(made, RedirectFeed)
    yield made
    made.close()
    store.close()


def until_proven(feed: Any) -> list[Any]:
    """Ask for a proof; return what is told before it comes."""
    feed.prove()
    events: list[Any] = []
    until(lambda: events.append(feed.next(0.05)) or isinstance(events[-1], Proven))
    return [event for event in events[:-1] if event is not None]


def test_what_changes_is_told_before_its_proof(feed, old):
    client = old.client(protocol=2)
    client.set("p:a", 1)
    client.set("other", 1)
    assert until_proven(feed) == [Changed([b"p:a"])]
    client.set("p:b", 1)
    client.delete("p:a")
    names = [name for event in until_proven(feed) for name in event.names]
    assert sorted(names) == [b"p:a", b"p:b"]
    client.flushall()
    [event] = until_proven(feed)
    assert isinstance(event, AllChanged)
    assert until_proven(feed) == []


def connection_of(old: RedisServer, which: Callable[[dict[str, str]], bool]) -> str:
    """Return the number of the connection that is such a one."""
    return next(each["id"] for each in old.client(protocol=2).client_list() if which(each))


def test_what_others_publish_is_passed_over(feed, old):
    """Whoever may publish ends no feed by it, and has nothing be taken out."""
    client = old.client(protocol=2)
    for words in (b"p:a", b"", b"\x00", b"*1\r\n$3\r\np:a\r\n", b"pong"):
        assert client.publish(CHANNEL, words) == 1
    assert until_proven(feed) == [] and feed.foreign == 5
    for number in range(500):
        client.publish(CHANNEL, b"flood")
        if number == 250:
            client.set("p:b", 1)
    assert until_proven(feed) == [Changed([b"p:b"])] and feed.foreign == 505
    assert feed.next(0) is None


def test_a_flood_of_what_others_publish_ends_no_listening(tiers, old):
    one, other = (tiers(old.client(protocol=2), max_staleness=60) for _ in range(2))
    listens(other)
    copied(one, "a", 1)
    assert other["a"] == 1
    for _ in range(2_000):
        old.client(protocol=2).publish(CHANNEL, b"p:a")
    one["a"] = 2
    until(lambda: other["a"] == 2)
    assert other.report().epochs == 1 and other.report().trouble == ""


@pytest.mark.parametrize("message", [
    [b"message", CHANNEL], [b"message", CHANNEL, [b"p:a", 1]], [b"message", CHANNEL, 7],
    [b"message", b"another", [b"p:a"]], [b"unsubscribe", CHANNEL, 0], b"what", [], 7,
])
def test_what_is_not_understood_ends_the_feed_and_says_so(feed, message):
    """It may have been a change."""
    with pytest.raises(StoreUnavailable, match="not understood"):
        feed._understood(message)


@pytest.mark.parametrize("which", ["the one that has the tracking", "the one that is told"])
def test_the_death_of_either_is_noticed(feed, old, which):
    """The server says nothing as the first one goes."""
    number = connection_of(old, lambda each: ("t" in each["flags"]) is ("has" in which) and (
        "P" in each["flags"]) is ("told" in which))
    old.client(protocol=2).client_kill_filter(_id=number)
    old.client(protocol=2).set("p:a", 1)
    with pytest.raises(StoreUnavailable):
        feed.prove()
        while not isinstance(feed.next(0.05), Proven):
            pass


def test_a_tier_over_it(tiers, old):
    one, other = (tiers(old.client(protocol=2), max_staleness=60) for _ in range(2))
    listens(other)
    copied(one, "a", 1)
    assert other["a"] == 1
    one["a"] = 2
    until(lambda: other["a"] == 2)
    assert other.report().is_listening and other.report().trouble == ""


def test_a_server_that_is_stopped_proves_nothing(feed, old, monkeypatch):
    monkeypatch.setattr("shmmap.tiers.redis_redirect.SILENCE_S", 0.2)
    old.stop()
    try:
        feed.prove()
        with pytest.raises(StoreUnavailable, match="nothing was heard"):
            feed.next(5)
    finally:
        old.go_on()


class Silent:
    """A connection whose wire is cut: what is sent is lost, and nothing comes."""

    _sock = None

    def send_command(self, *words: Any) -> None:
        """Send it nowhere."""

    def can_read(self, timeout: float) -> bool:
        """Return that nothing has come."""
        return False

    def disconnect(self) -> None:
        """Do nothing."""


def test_a_tracking_connection_that_is_cut_off_proves_nothing(feed):
    feed._tracking.disconnect()
    feed._tracking = Silent()
    feed.prove()
    assert not any(isinstance(feed.next(0.05), Proven) for _ in range(10))
