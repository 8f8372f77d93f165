"""A real Redis Cluster under a tier: slots that move, nodes that come, go, stop and die."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from shmmap import ENGINE, StoreRefused, StoreUnavailable, Tiered
from shmmap.tiers.redis_cluster import ClusterStore
from shmmap.tiers.redis_cluster_feed import ClusterFeed, nodes_of

from ...support.redis_cluster import Cluster, Node
from .conftest import listens, until

pytestmark = pytest.mark.skipif(ENGINE == "pure", reason="the same with either engine")
BOUND_S = 0.5
KEY = "{a}key"  # in slot 15495, of the third node


class History:
    """One machine writes numbers to a key, another one reads them with a bound."""

    def __init__(self, writer: Tiered, reader: Tiered) -> None:
        self.writer, self.reader = writer, reader
        self.acked: dict[int, float] = {}
        self.reads = self.refused = self.failed = 0
        self.late: list[str] = []
        self.lost: list[str] = []
        self.is_paused = self._is_over = False
        self._threads = [threading.Thread(target=self.write), threading.Thread(target=self.read)]

    def write(self) -> None:
        """Write again and again."""
        number = 0
        while not self._is_over:
            if self.is_paused:
                time.sleep(0.003)
                continue
            number += 1
            try:
                self.writer.set(KEY, number)
                self.acked[number] = time.monotonic()
            except StoreUnavailable:
                self.failed += 1
            time.sleep(0.003)

    def read(self) -> None:
        """Read again and again. An answer is late if a later number was acknowledged more than the
        bound before it was asked for."""
        while not self._is_over:
            began = time.monotonic()
            try:
                number = self.reader.get(KEY, 0)
            except StoreUnavailable:
                self.refused += 1
                time.sleep(0.005)
                continue
            self.reads += 1
            newer = next((at for at in range(number + 1, number + 500) if at in self.acked), None)
            if newer is not None and began - self.acked[newer] > BOUND_S:
                self.late.append(f"{number}, {began - self.acked[newer]:.3f} s after {newer}")

    def __enter__(self) -> History:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._is_over = True
        for thread in self._threads:
            thread.join()

    def goes_on(self) -> None:
        """Wait until writes are done, and read."""
        reads, acked = self.reads, len(self.acked)
        until(lambda: self.reads > reads + 50 and len(self.acked) > acked + 10)

    def judge(self) -> None:
        """Assert that no answer was late."""
        assert not self.late, (self.late[:3], len(self.late), self.reads)


@pytest.fixture
def history(tiers: Any) -> Callable[[Any], History]:
    """Two machines of a cluster's clients."""
    def between(cluster: Cluster) -> History:
        writer, reader = (tiers(cluster.client(), max_staleness=BOUND_S, timeout=0.3)
                          for _ in range(2))
        listens(writer)
        listens(reader)
        return History(writer, reader)

    return between


def owner_of(cluster: Cluster, slot: int) -> Node:
    """Return the primary of a slot."""
    for first, last, primary, *_ in cluster.nodes[0].ask("CLUSTER", "SLOTS"):
        if first <= slot <= last:
            return next(node for node in cluster.nodes if node.port == primary[1])
    raise AssertionError(slot)


def test_a_slot_moves_and_moves_back(history, own):
    cluster = own()
    slot = cluster.nodes[0].ask("CLUSTER", "KEYSLOT", KEY)
    with history(cluster) as seen:
        seen.goes_on()
        epochs = seen.reader.report().epochs
        for _ in range(2):
            source = owner_of(cluster, slot)
            target = next(node for node in cluster.nodes if node is not source)
            cluster.move_slot(slot, source, target)
            seen.goes_on()
            cluster.move_keys(slot, source, target)
            seen.goes_on()
            cluster.end_move(slot, target)
            seen.goes_on()
            until(lambda: seen.reader.report().proven_s < BOUND_S)
        # all of them were listened to, but the first slot that a node gets raises its epoch
        assert seen.reader.report().epochs <= epochs + 2
    seen.judge()
    assert not seen.failed and not seen.refused
    assert seen.reader.get(KEY, consistency="linearizable") == max(seen.acked)


def test_a_slot_moves_to_a_node_that_is_new(history, own):
    cluster = own()
    slot = cluster.nodes[0].ask("CLUSTER", "KEYSLOT", KEY)
    with history(cluster) as seen:
        seen.goes_on()
        epochs = seen.reader.report().epochs
        new = cluster.start()
        cluster.meet(new)
        cluster.settle()
        source = owner_of(cluster, slot)
        cluster.move_slot(slot, source, new)
        cluster.move_keys(slot, source, new)
        seen.goes_on()
        cluster.end_move(slot, new)
        seen.goes_on()
        until(lambda: seen.reader.report().epochs > epochs)
        until(lambda: seen.reader.report().proven_s < BOUND_S)
    seen.judge()
    assert not seen.failed


def test_a_primary_dies_and_its_replica_takes_its_place(history, own):
    cluster = own(timeout_ms=1_000)
    slot = cluster.nodes[0].ask("CLUSTER", "KEYSLOT", KEY)
    primary = owner_of(cluster, slot)
    replica = cluster.replicate(primary)
    with history(cluster) as seen:
        seen.goes_on()
        seen.is_paused = True  # what the replica does not have yet is lost: that is Redis's own
        time.sleep(0.1)
        primary.ask("WAIT", 1, 10_000)
        primary.kill()
        seen.is_paused = False
        until(lambda: replica.client.info("replication")["role"] == "master")
        seen.goes_on()
        until(lambda: seen.reader.report().proven_s < BOUND_S)
    seen.judge()
    assert seen.failed, "nobody takes writes in between"


def test_a_node_that_is_stopped(history, own):
    """Its keys cannot be had; those of others can, though nothing is proven meanwhile."""
    cluster = own()
    slot = cluster.nodes[0].ask("CLUSTER", "KEYSLOT", KEY)
    node = owner_of(cluster, slot)
    elsewhere = next(f"{{{name}}}" for name in "bcdefgh" if owner_of(
        cluster, cluster.nodes[0].ask("CLUSTER", "KEYSLOT", name)) is not node)
    with history(cluster) as seen:
        seen.writer[elsewhere] = 1
        seen.goes_on()
        node.stop()
        try:
            until(lambda: seen.refused > 3)
            until(lambda: _answers(seen.reader, elsewhere) == 1)
        finally:
            node.go_on()
        seen.goes_on()
    seen.judge()


def _answers(tier: Tiered, key: Any) -> Any:
    try:
        return tier.get(key, consistency="linearizable")
    except StoreUnavailable:
        return None


def test_tracking_connections_are_killed(history, cluster):
    with history(cluster) as seen:
        for node in cluster.nodes:
            seen.goes_on()
            for client in node.client.client_list():
                if "t" in client["flags"] or "B" in client["flags"]:
                    node.client.client_kill(client["addr"])
        seen.goes_on()
        until(lambda: seen.reader.report().epochs > 1)
        seen.goes_on()
    seen.judge()


def test_what_lies_on_all_nodes_is_asked_for_at_once(tiers, cluster):
    tier = tiers(cluster.client())
    pairs = {f"key{number}": number for number in range(500)}
    tier.set_many(pairs)
    assert tier.get_many(pairs) == pairs and tier.report().asked == 1
    assert sum(node.client.dbsize() for node in cluster.nodes) >= 500
    assert all(node.client.dbsize() for node in cluster.nodes)
    assert tier.delete_many(pairs) == 500 and tier.get_many(pairs) == {}


def test_many_slots_move_under_many_keys(tiers, own):
    """Each call finds its way, whatever it was told before: MOVED, ASK and TRYAGAIN."""
    cluster = own()
    tier, other = tiers(cluster.client(), max_staleness=0), tiers(cluster.client())
    pairs = {f"key{number}": number for number in range(300)}
    tier.set_many(pairs)
    first = cluster.nodes[0].ask("CLUSTER", "KEYSLOT", "shmmap:key0")
    for number in range(60):
        slot = cluster.nodes[0].ask("CLUSTER", "KEYSLOT", f"shmmap:key{number}")
        source = owner_of(cluster, slot)
        target = next(node for node in cluster.nodes if node is not source)
        cluster.move_slot(slot, source, target)
        if number % 2:
            cluster.move_keys(slot, source, target)
        assert tier.get_many(pairs) == pairs
        assert tier.incr(f"key{number}", 1000) == number + 1000
        assert other.incr(f"key{number}", -1000) == number
        cluster.move_keys(slot, source, target)
        cluster.end_move(slot, target)
    assert tier.get_many(pairs) == pairs and first >= 0


def test_a_write_is_never_sent_twice(cluster, monkeypatch):
    """Its answer is lost: nobody knows, and nothing is sent again."""
    store = ClusterStore(cluster.client(), 0.5)
    store.set(b"a", b"1", None)
    sent = []
    real = ClusterStore._send_to

    def lose(self: Any, address: Any, commands: Any, is_asking: bool, again: bool) -> Any:
        sent.append(commands)
        real(self, address, commands, is_asking, again)
        raise redis_error("lost")

    monkeypatch.setattr(ClusterStore, "_send_to", lose)
    with pytest.raises(StoreUnavailable) as raised:
        store.set(b"a", b"2", None)
    assert raised.value.was_sent and len(sent) == 1
    sent.clear()
    with pytest.raises(StoreUnavailable):
        store.get(b"a")
    assert 1 < len(sent) <= 8, "a read may be asked again"


def redis_error(words: str) -> Exception:
    """Make an error of a connection."""
    redis = pytest.importorskip("redis")
    made: Exception = redis.ConnectionError(words)
    return made


def test_no_node_is_there(tiers, own):
    cluster = own()
    tier = tiers(cluster.client(), timeout=0.3)
    tier["a"] = 1
    for node in cluster.nodes:
        node.kill()
    with pytest.raises(StoreUnavailable):
        tier["b"] = 1
    with pytest.raises(StoreUnavailable) as raised:
        tier.get("b")
    assert not raised.value.was_sent


def test_a_node_alone_is_no_store(tiers, cluster):
    redis = pytest.importorskip("redis")
    tier = tiers(redis.Redis(port=cluster.nodes[0].port))
    elsewhere = next(f"k{number}" for number in range(100) if owner_of(
        cluster, cluster.nodes[0].ask("CLUSTER", "KEYSLOT", f"shmmap:k{number}"))
        is not cluster.nodes[0])
    with pytest.raises(StoreRefused, match=r"give a client redis.RedisCluster"):
        tier.get(elsewhere)


def test_nodes_that_send_on_in_circles_are_told_of(cluster, monkeypatch):
    redis = pytest.importorskip("redis")
    store = ClusterStore(cluster.client(), 0.5)
    host, port = cluster.address
    moved = redis.exceptions.MovedError(f"7 {host}:{port}")
    monkeypatch.setattr(store, "_send_to", lambda address, commands, asks, again: [
        moved for _ in commands])
    with pytest.raises(StoreUnavailable, match="do not agree"):
        store.get(b"a")
    store.close()


def test_a_node_that_refuses(tiers, cluster):
    tier = tiers(cluster.client())
    tier["a"] = 1
    for node in cluster.nodes:
        node.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreRefused, match="OOM"):
            tier["b"] = 2
        with pytest.raises(StoreRefused, match="OOM"):
            tier.set_many({f"k{number}": 1 for number in range(50)})
    finally:
        for node in cluster.nodes:
            node.client.config_set("maxmemory", 0)
    assert tier["a"] == 1


def test_what_a_node_gives_that_is_not_listened_to_is_not_kept(tiers, cluster, monkeypatch):
    """It may have been replaced, and not know it: nobody would ever tell of its values."""
    tier = listens(tiers(cluster.client(), max_staleness=60))
    tier["a"] = 1
    until(lambda: tier["a"] == 1 and tier.map.get("a") is not None)
    tier.map.delete("a")
    real = type(tier._freshness).sources
    assert len(real(tier._freshness)) == 3
    monkeypatch.setattr(type(tier._freshness), "sources", lambda self: frozenset({"other:1"}))
    assert [tier["a"] for _ in range(3)] == [1] * 3 and tier.map.get("a") is None


UP = "cluster_state:ok\r\ncluster_current_epoch:7\r\ncluster_my_epoch:1\r\n"
LINES = (
    "id1 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-8000\n"
    "id2 127.0.0.1:2@3 master - 0 0 2 connected 8001-16383\n"
    "id3 127.0.0.1:3@4 slave id1 0 0 2 connected\n"
)


def judge(*answers: str) -> bool:
    """Have a feed that listens to id1 and id2 judge the signs of id1."""
    feed = ClusterFeed.__new__(ClusterFeed)
    feed._primaries, feed._epochs = {"id1", "id2"}, {"id1": "7"}
    return [feed._judge("id1", answer.encode()) for answer in answers][-1]


def test_signs_are_judged():
    assert judge(UP, LINES) is True
    assert judge(UP) is False
    assert judge(LINES.replace("master -", "master,fail -", 2).replace("master,fail", "master", 1))
    for told, words in (
        (UP.replace("ok", "fail"), "down"), (UP.replace("7", "8"), "an election"),
        (LINES.replace("myself,master", "myself,slave"), "no"),
        (LINES.replace("slave id1", "master -"), "another primary"),
        (LINES.replace("id1 ", "id9 "), "no primary"), ("garbage", "not understood"),
    ):
        with pytest.raises(StoreUnavailable, match=words):
            judge(told)
    assert [node.is_primary for node in nodes_of(LINES)] == [True, True, False]
    named = nodes_of("id1 127.0.0.1:1@2,a.example,shard-id=7 master - 0 0 1 connected 0-1\n")
    assert named[0].hostname == "a.example" and nodes_of(LINES)[0].hostname == ""


def test_an_election_is_seen_before_its_winner_is(tiers, own, monkeypatch):
    """The winner's announcement is late: each node goes on to say whom it knew before."""
    first: dict[str, Any] = {}
    real = ClusterFeed._judge

    def late(self: Any, expected: str, answer: Any) -> bool:
        if b"cluster_state" not in answer:
            answer = first.setdefault(expected, answer)
        return real(self, expected, answer)

    cluster = own(timeout_ms=1_000)
    replica = cluster.replicate(cluster.nodes[0])
    monkeypatch.setattr(ClusterFeed, "_judge", late)
    tier = listens(tiers(cluster.client(), max_staleness=BOUND_S))
    epochs = tier.report().epochs
    time.sleep(0.5)
    assert tier.report().epochs == epochs
    replica.ask("CLUSTER", "FAILOVER")
    until(lambda: tier.report().epochs > epochs or "election" in tier.report().trouble)


def test_whom_a_node_knows_is_looked_at(history, own, monkeypatch):
    """Else a write at a node that is not listened to goes unheard."""
    monkeypatch.setattr(ClusterFeed, "_judge",
                        lambda self, expected, answer: b"cluster_state" not in answer)
    for module in ("redis_cluster", "redis_cluster_feed"):  # and any node may give copies
        monkeypatch.setattr(f"shmmap.tiers.{module}.name_of", lambda address: "any")
    cluster = own()
    slot = cluster.nodes[0].ask("CLUSTER", "KEYSLOT", KEY)
    with history(cluster) as seen:
        seen.goes_on()
        new = cluster.start()
        cluster.meet(new)
        cluster.settle()
        source = owner_of(cluster, slot)
        cluster.move_slot(slot, source, new)
        cluster.move_keys(slot, source, new)
        cluster.end_move(slot, new)
        until(lambda: seen.late)


def test_what_has_moved_to_a_node_that_was_not_heard_of_is_listed(tiers, own):
    """A scan names no key, so nobody says MOVED."""
    cluster = own()
    tier = tiers(cluster.client(), tombstones=60)
    for number in range(30):
        tier[number] = number
    assert len(tier.digests()) == 30
    new = cluster.start()
    cluster.meet(new)
    cluster.settle()
    slots = {cluster.nodes[0].ask("CLUSTER", "KEYSLOT", tier._names.name_of(number))
             for number in range(30)}
    for slot in slots:
        if (source := owner_of(cluster, slot)) is cluster.nodes[0]:
            cluster.move_slot(slot, source, new)
            cluster.move_keys(slot, source, new)
            cluster.end_move(slot, new)
    assert new.client.dbsize() > 0
    assert len(tier.digests()) == 30


def test_what_moves_while_it_is_listed_is_listed_again(cluster, monkeypatch):
    store = ClusterStore(cluster.client())
    owners = store._nodes.learn()
    other = next(one for one in owners if one != owners[0])
    told = [owners, [other, *owners[1:]], [other, *owners[1:]]]
    listed: list[Any] = []
    monkeypatch.setattr(store._nodes, "learn", lambda: told.pop(0))
    monkeypatch.setattr(store, "_list_at", lambda node, prefix: listed.append(node) or iter(()))
    assert list(store.list_heads(b"p:")) == [] and len(listed) == 6 and not told
    store.close()


def test_nodes_that_say_nothing_are_not_waited_for_one_by_one(cluster):
    """Six of seven: two are waited for, and then the call ends; the one that answers is found."""
    silent = [socket.create_server(("127.0.0.1", 0)) for _ in range(6)]
    store = ClusterStore(cluster.client(), 0.2)
    store._nodes._seeds = [one.getsockname() for one in silent] + [cluster.address]
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        store.get(b"never written")
    assert time.monotonic() - began < 0.9
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            store.get(b"never written")
    assert store.get(b"never written") is None
    store.close()
    for one in silent:
        one.close()


@pytest.mark.parametrize("prefix", ["x{}:", "{}", "x{", "{x}", "}{}{a}"])
def test_a_prefix_with_braces(tiers, cluster, prefix):
    """All names of a lock lie in one slot."""
    tier = tiers(cluster.client(), prefix=prefix)
    with tier.lock("a") as lock:
        assert lock.token
    tier["a"] = 1
    assert tier.get("a", consistency="linearizable") == 1
