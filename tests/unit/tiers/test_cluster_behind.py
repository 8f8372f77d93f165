"""write="behind" over a Redis Cluster: a node that is away, or a slot that is being moved, is in
the way of nobody but its own keys."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from shmmap import ENGINE, StoreUnavailable, Tiered
from shmmap.tiers import redis_nodes
from shmmap.tiers.redis_cluster import ClusterStore
from shmmap.tiers.store import Put

from ...support.redis_cluster import Cluster, Node
from .conftest import until

pytestmark = pytest.mark.skipif(ENGINE == "pure", reason="the same with either engine")
TIMEOUT_S = 0.5
KEYS = [f"{{{letter}}}" for letter in "abcdefghijkl"]


def slot_of(cluster: Cluster, name: str) -> int:
    """Return the slot of a name."""
    return int(cluster.nodes[-1].ask("CLUSTER", "KEYSLOT", name))


def split(cluster: Cluster, node: Node) -> tuple[list[str], list[str]]:
    """Return keys that a node has, and keys of others."""
    ranges = [(first, last) for first, last, primary, *_ in node.ask("CLUSTER", "SLOTS")
              if primary[1] == node.port]
    is_there = {key: any(first <= slot_of(cluster, key) <= last for first, last in ranges)
                for key in KEYS}
    return [key for key in KEYS if is_there[key]], [key for key in KEYS if not is_there[key]]


def carried(tier: Tiered, key: str) -> bool:
    """Tell whether nothing of a key waits."""
    return tier._behind.pending(key) is None  # type: ignore[union-attr]


def trouble(tier: Tiered) -> str:
    """Return what is wrong with carrying."""
    return str(tier._behind.part.trouble)  # type: ignore[union-attr]


def value_at(cluster: Cluster, tier: Tiered, key: str, value: int) -> bool:
    """Tell whether the cluster has a value, whatever node it is."""
    with cluster.client() as client:
        found = client.get(tier._names.name_of(key))
    return bool(found == str(value).encode())


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_node_that_is_away_stops_its_own_keys_only(behind, own, how):
    cluster = own()
    tier = behind(cluster.client(), timeout=TIMEOUT_S, codec="json")
    node = cluster.nodes[0]
    away, others = split(cluster, node)
    tier.set_many(dict.fromkeys(KEYS, 0))
    tier.flush(20)
    if how == "stopped":
        node.stop()
    else:
        node.kill()
    for key in away:
        tier[key] = 1
    tier[others[0]] = 1
    until(lambda: carried(tier, others[0]), 8)
    until(lambda: "node 127.0.0.1" in trouble(tier), 2)
    for number in range(2, 60):  # through several looks at the node
        began = time.monotonic()
        for key in others:
            tier[key] = number
        until(lambda: all(carried(tier, key) for key in others), 5)
        assert time.monotonic() - began < 0.8 * TIMEOUT_S, "nobody waits for the silent node"
        time.sleep(0.05)
    assert tier.report().waiting == len(away) and not any(carried(tier, key) for key in away)
    if how == "stopped":
        node.go_on()
        until(lambda: all(carried(tier, key) for key in away), 3)
        assert all(value_at(cluster, tier, key, 1) for key in away)
        until(lambda: not trouble(tier), 3)


def test_a_replica_that_takes_over_is_found(behind, own):
    cluster = own(timeout_ms=1_000)
    node = cluster.nodes[1]
    replica = cluster.replicate(node)
    tier = behind(cluster.client(), timeout=TIMEOUT_S, codec="json")
    away, others = split(cluster, node)
    tier.set_many(dict.fromkeys(KEYS, 0))
    tier.flush(20)
    node.kill()
    for key in KEYS:
        tier[key] = 1
    until(lambda: replica.client.info("replication")["role"] == "master")
    until(lambda: all(carried(tier, key) for key in KEYS), 3)
    assert all(value_at(cluster, tier, key, 1) for key in KEYS)
    assert away and others


def test_one_silent_node_is_in_the_way_of_no_read_of_the_others(tiers, own, monkeypatch):
    asked: list[tuple[int, float]] = []  # by this thread: the port, and how long it took
    ask = redis_nodes.Nodes.ask

    def ask_and_note(nodes, address, *commands, **more):
        began = time.monotonic()
        try:
            return ask(nodes, address, *commands, **more)
        finally:
            if threading.current_thread() is threading.main_thread():
                asked.append((address[1], time.monotonic() - began))

    monkeypatch.setattr(redis_nodes.Nodes, "ask", ask_and_note)
    cluster = own()
    tier = tiers(cluster.client(), timeout=TIMEOUT_S, consistency="linearizable")
    node = cluster.nodes[0]
    away, others = split(cluster, node)
    tier.set_many(dict.fromkeys(KEYS, 0))
    node.stop()
    refused, waited, late = 0, [], []
    until_s = time.monotonic() + 4
    while time.monotonic() < until_s:
        began = time.monotonic()
        try:
            tier.get(away[0])
        except StoreUnavailable as error:
            refused += 1
            took = time.monotonic() - began
            assert took < 0.1 or "Timeout" in str(error) or "node" in str(error)
        asked.clear()
        for key in others:
            began = time.monotonic()
            assert tier.get(key) == 0
            waited.append(time.monotonic() - began)
        assert node.port not in dict(asked), asked
        late += [one for one in asked if one[1] > 0.2]
        time.sleep(0.02)
    assert refused > 10, "it is not waited for each time"
    waited.sort()
    # one in hundreds took as long as that once, on a busy machine: see docs/design/tiers.md
    assert len(waited) > 50 and waited[-2] < 0.8 * TIMEOUT_S, (waited[-5:], late)
    node.go_on()
    until(lambda: _answers(tier, away[0]) == 0, 3)


def _answers(tier: Tiered, key: str) -> Any:
    try:
        return tier.get(key)
    except StoreUnavailable:
        return None


def test_what_must_see_a_silent_node_is_told_at_once(behind, own):
    """It waits for what was written before, and not again and again."""
    cluster = own()
    tier = behind(cluster.client(), timeout=TIMEOUT_S, codec="json")
    node = cluster.nodes[0]
    away, others = split(cluster, node)
    node.stop()
    tier[away[0]] = 1
    until(lambda: "node" in trouble(tier), 5)
    began = time.monotonic()
    for _ in range(5):
        with pytest.raises(StoreUnavailable, match="does not answer"):
            tier.incr(away[0])
    assert time.monotonic() - began < 0.5
    assert tier.incr(others[0]) == 1
    node.go_on()
    until(lambda: carried(tier, away[0]), 3)
    assert tier.incr(away[0]) == 2


def moving(cluster: Cluster, tier: Tiered, key: str, target: Node | None = None) -> tuple[int, Any]:
    """Begin to move the slot of a key; return it, and from where and where to."""
    slot = int(cluster.nodes[0].ask("CLUSTER", "KEYSLOT", tier._names.name_of(key)))
    source = next(node for node in cluster.nodes for first, last, primary, *_ in
                  cluster.nodes[0].ask("CLUSTER", "SLOTS")
                  if first <= slot <= last and node.port == primary[1])
    target = target or next(node for node in cluster.nodes if node is not source)
    cluster.move_slot(slot, source, target)
    return slot, (source, target)


@pytest.mark.parametrize("is_new", [False, True])
def test_a_slot_that_is_being_moved_is_written_to(behind, own, is_new):
    """A key that is not there is asked for at the node to which its slot is moved, by ASKING; by a
    time that this node has told itself."""
    cluster = own()
    new = None
    if is_new:
        new = cluster.start()
        cluster.meet(new)
        cluster.settle()
    tier = behind(cluster.client(), timeout=TIMEOUT_S, codec="json")
    tier["{a}old"] = 0
    tier.flush(20)
    slot, (source, target) = moving(cluster, tier, "{a}new", new)
    began = time.monotonic()
    tier["{a}new"] = 1
    tier["{a}old"] = 1
    until(lambda: carried(tier, "{a}new"), 3)
    tier["{a}new"] = 2
    tier.flush(3)
    assert time.monotonic() - began < 1.5
    assert tier.get("{a}new", consistency="linearizable") == 2
    assert source.client.dbsize() >= 1 and target.client.dbsize() >= 1
    cluster.move_keys(slot, source, target)
    tier["{a}old"] = 3
    tier.flush(3)
    cluster.end_move(slot, target)
    tier["{a}old"] = 4
    tier.flush(3)
    assert value_at(cluster, tier, "{a}new", 2) and value_at(cluster, tier, "{a}old", 4)


def test_a_move_that_its_target_does_not_know_of_is_not_spun_on(behind, own, monkeypatch):
    """Each sends to the other: the key waits, the drain does not run hot, others are carried."""
    cluster = own()
    tier = behind(cluster.client(), timeout=TIMEOUT_S, codec="json")
    slot, (source, target) = moving(cluster, tier, "{a}new")
    target.ask("CLUSTER", "SETSLOT", slot, "STABLE")
    asked: list[Any] = []
    real = ClusterStore.put_latest

    def put_latest(self: Any, *given: Any) -> Any:
        asked.append(given)
        return real(self, *given)

    monkeypatch.setattr(ClusterStore, "put_latest", put_latest)
    tier["{a}new"] = 1
    until(lambda: asked)
    time.sleep(1.5)
    assert not carried(tier, "{a}new") and len(asked) <= 8
    assert "do not agree" in trouble(tier)
    tier["{b}"] = 1
    until(lambda: carried(tier, "{b}"), 2)
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
    until(lambda: carried(tier, "{a}new"), 2)
    assert trouble(tier) == ""


def test_a_time_that_was_not_told_before_is_not_asked_for_as_it_is_sent(cluster):
    """Whoever was stopped in between would have one that came too late."""
    store = ClusterStore(cluster.client(), TIMEOUT_S)
    puts = [Put(f"untold {number}".encode(), b"1", 5.0, b"") for number in range(30)]
    began = store.moment()
    assert len(began) == 3
    left_out = next(iter(began))
    del began[left_out]
    done = store.put_latest(puts, began, 1_500, 1 << 62)
    assert {type(one) for one in done} == {bool, StoreUnavailable}
    for put, one in zip(puts, done, strict=True):
        there = store.get(put.name)
        if one is True:
            assert there is not None
        else:
            assert isinstance(one, StoreUnavailable) and not one.was_sent and there is None
    assert store.put_latest(puts, {}, 1_500, 1 << 62)[0].was_sent is False  # type: ignore
    early = {address: ms - 5_000 for address, ms in store.moment().items()}
    assert store.put_latest(puts, early, 1_500, 1 << 62) == [None] * 30
    store.close()


def test_answers_that_are_lost_are_told_of_one_by_one(cluster, monkeypatch):
    """What one node was sent, and has not answered, may be under way; the others have answered."""
    store = ClusterStore(cluster.client(), TIMEOUT_S)
    puts = [Put(f"lost {number}".encode(), b"1", 5.0, b"") for number in range(30)]
    began = store.moment()
    silent = next(iter(began))
    real = redis_nodes.Wire.ask

    def ask(self: Any, *commands: Any, **how: Any) -> Any:
        found = real(self, *commands, **how)
        if self is store._nodes._wires.get(silent):
            raise pytest.importorskip("redis").TimeoutError("lost")
        return found

    monkeypatch.setattr(redis_nodes.Wire, "ask", ask)
    done = store.put_latest(puts, began, 1_500, 1 << 62)
    assert {type(one) for one in done} == {bool, StoreUnavailable}
    assert all(one is True or one.was_sent for one in done)  # type: ignore[union-attr]
    assert silent not in store.moment() and len(store.moment()) == 2
    monkeypatch.undo()
    until(lambda: silent in store.moment(), 3)
    store.close()
