"""Tiered where the store cannot be reached, or says no."""

from __future__ import annotations

import socket
import struct
import time
from typing import Any

import pytest

from shmmap import (
    StoreRefused,
    StoreUnavailable,
    Tiered,
)
from shmmap.testing import LocalStore
from shmmap.tiers.redis_store import RedisStore

from ...support.engines import once
from .conftest import answers, copied, listens, until

pytestmark = once  # the same with either engine


@pytest.mark.parametrize(("consistency", "within", "after"), [
    ("linearizable", False, False), ("session", True, True), ("bounded", True, False),
])
def test_cut_off(tiers, consistency, within, after):
    store = LocalStore()
    options: dict[str, Any] = {"consistency": consistency}
    if consistency == "bounded":
        options["max_staleness"] = 0.8
    tier = listens(tiers(store, **options))
    copied(tier, "a", 1)
    store.is_cut = True
    for may in (within, after):
        if may:
            assert tier["a"] == 1
        else:
            with pytest.raises(StoreUnavailable):
                tier["a"]
        time.sleep(0.9)
    with pytest.raises(StoreUnavailable):
        tier["other"]
    with pytest.raises(StoreUnavailable):
        tier["a"] = 2
    store.is_cut = False
    until(lambda: answers(tier) == 1)


@pytest.mark.parametrize("consistency", ["linearizable", "session", "bounded"])
def test_stale_if_error(tiers, consistency):
    store = LocalStore()
    options: dict[str, Any] = {"max_staleness": 0.05} if consistency == "bounded" else {}
    tier = listens(tiers(store, consistency=consistency, stale_if_error=1.5, **options))
    copied(tier, "a", 1)
    store.is_cut = True
    time.sleep(0.2)
    assert tier["a"] == 1
    if consistency != "session":
        time.sleep(1.6)
        with pytest.raises(StoreUnavailable):
            tier["a"]


@pytest.mark.parametrize("options", [{"max_staleness": 0.5}, {"consistency": "session"}])
def test_what_changed_while_nobody_listened_is_asked_for_again(tiers, options):
    store = LocalStore()
    one, other = (listens(tiers(store, **options)) for _ in range(2))
    one["a"] = 1
    assert other["a"] == 1
    for feed in store.feeds:
        feed.lose()
    one["a"] = 2
    until(lambda: other["a"] == 2, 5)


def test_a_server_that_dies_and_comes_back(tiers, server):
    tier = listens(tiers(server.client(), max_staleness=0.3, stale_if_error=0.2))
    copied(tier, "a", 1)
    server.kill()
    time.sleep(0.8)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        tier["a"]
    with pytest.raises(StoreUnavailable, match="a moment ago"):
        tier["a"]
    assert time.monotonic() - began < 2
    server.start()
    until(lambda: _there(tier))
    listens(tier)
    assert tier.get("a") is None  # it has kept nothing
    tier["a"] = 2
    assert tier["a"] == 2


def _there(tier: Tiered) -> bool:
    try:
        return tier.get("a") is None
    except StoreUnavailable:
        return False


def test_a_server_that_says_nothing_holds_nobody_up(tiers, server):
    tier = listens(tiers(server.client(), max_staleness=0.2, timeout=0.2))
    copied(tier, "a", 1)
    server.stop()
    try:
        time.sleep(0.4)
        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(StoreUnavailable):
                tier["a"]
        assert time.monotonic() - began < 4
    finally:
        server.go_on()
    until(lambda: answers(tier) == 1)


def test_a_wrong_password_is_no_lack_of_a_store(tiers, server):
    client = server.client()
    client.config_set("requirepass", "secret")
    tier = tiers(server.client(password="wrong"))
    with pytest.raises(StoreRefused, match=r"WRONGPASS|password"):
        tier["a"]
    right = tiers(server.client(password="secret"))
    right["a"] = 1
    assert right["a"] == 1 and "secret" not in repr(right)


def test_no_right_and_no_memory(tiers, server):
    client = server.client()
    client.acl_setuser("reader", enabled=True, passwords=["+p"], keys=["shop:*"],
                       commands=["+get", "+pttl", "+client", "+ping", "+hello"])
    reader = tiers(server.client(username="reader", password="p"), prefix="shop:")
    assert reader.get("a") is None
    with pytest.raises(StoreRefused, match=r"NOPERM|no permission"):
        reader["a"] = 1
    client.config_set("maxmemory", "1mb")
    writer = tiers(server.client(), prefix="shop:")
    with pytest.raises(StoreRefused, match=r"OOM|memory"):
        writer["b"] = "x" * 10**6
    assert writer.get("b") is None


def test_a_connection_that_is_closed_sends_nothing_more(running):
    """Else a write that has failed could come through when the wire is whole again, over one that
    was acknowledged since; tests/fault/machines cuts a wire."""
    store = RedisStore(running.client())
    store.get(b"a")
    ((connection,),) = store._wire._idle.values()
    linger = connection._sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
    assert struct.unpack("ii", linger) == (1, 0)
    store.close()


def test_of_many_pieces_some_were_done(running, monkeypatch):
    """The second one could not be sent: the first was done all the same."""
    from shmmap.tiers import redis_store

    monkeypatch.setattr(redis_store, "AT_ONCE", 10)
    for act in (lambda store, names: store.set_many([(name, b"x") for name in names], None),
                lambda store, names: store.delete(names)):
        store = redis_store.RedisStore(running.client())
        calls = []

        def send(*commands, again=False, calls=calls, store=store):
            calls.append(commands)
            if len(calls) == 2:
                raise redis_store.Unsent("cut")
            return store._wire.ask(*commands, again=again)

        monkeypatch.setattr(store, "_send", send)
        with pytest.raises(StoreUnavailable) as raised:
            act(store, [b"n%d" % number for number in range(25)])
        assert raised.value.was_sent and len(calls) == 2
        store.close()
