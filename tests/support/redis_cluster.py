"""A Redis Cluster of a test's own, on loopback: primaries, replicas, slots that move, nodes that
are stopped and killed."""

from __future__ import annotations

import random
import socket
import subprocess
import time
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from .server_process import ServerProcess

LIMIT_S = 30.0
SLOTS = 16384


class Node(ServerProcess):
    """One server of a cluster."""

    def __init__(self, folder: Path, timeout_ms: int) -> None:
        program = which("redis-server") or which("valkey-server")
        if program is None:
            pytest.skip("there is no redis-server")
        redis = pytest.importorskip("redis")
        self.port = free_port()
        folder.mkdir()
        self._process = subprocess.Popen(
            [program, "--port", str(self.port), "--bind", "127.0.0.1", "--cluster-enabled", "yes",
             "--cluster-node-timeout", str(timeout_ms), "--save", "", "--appendonly", "no",
             "--cluster-port", str(free_port()), "--dir", str(folder),
             "--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0"],
            stdout=subprocess.DEVNULL,
        )
        self.client = redis.Redis(port=self.port, socket_timeout=LIMIT_S)

    def ask(self, *words: Any) -> Any:
        """Run a command of the cluster's on this node."""
        return self.client.execute_command(*words)

    @property
    def id(self) -> str:
        """What the cluster calls it."""
        return _text(self.ask("CLUSTER", "MYID"))

    @property
    def own_port(self) -> int:
        """The port at which nodes talk to each other."""
        return int(_text(self.client.config_get("cluster-port")["cluster-port"]))

    def kill(self) -> None:
        """End it at once."""
        super().kill()
        self.client.close()



class Cluster:
    """Three primaries, and as many replicas as are wanted."""

    def __init__(self, folder: Path, primaries: int = 3, replicas: int = 0,
                 timeout_ms: int = 15_000) -> None:
        self._folder = folder
        folder.mkdir()
        self._timeout_ms = timeout_ms
        self.nodes: list[Node] = []
        try:
            for _ in range(primaries):
                self.start()
            ends = [SLOTS * at // primaries for at in range(primaries + 1)]
            for at, node in enumerate(self.nodes):
                until(lambda node=node: node.ask("PING"))  # type: ignore[misc]
                node.ask("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
                node.ask("CLUSTER", "ADDSLOTSRANGE", ends[at], ends[at + 1] - 1)
            for node in self.nodes[1:]:
                self.meet(node)
            self.settle()
            for at in range(replicas):
                self.replicate(self.nodes[at])
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> tuple[str, int]:
        """Where a client may ask first."""
        return "127.0.0.1", self.nodes[0].port

    def client(self, **more: Any) -> Any:
        """Return a client of it."""
        redis = pytest.importorskip("redis")
        return redis.RedisCluster(*self.address, **more)

    def start(self) -> Node:
        """Start a server that is in no cluster yet."""
        node = Node(self._folder / f"node{len(self.nodes)}", self._timeout_ms)
        self.nodes.append(node)
        return node

    def meet(self, node: Node) -> None:
        """Have the others know a node."""
        first = self.nodes[0]
        until(lambda: node.ask("PING"))
        node.ask("CLUSTER", "MEET", "127.0.0.1", first.port, first.own_port)

    def replicate(self, primary: Node) -> Node:
        """Add a replica."""
        node = self.start()
        self.meet(node)
        until(lambda: primary.id in _text(node.ask("CLUSTER", "NODES")))
        node.ask("CLUSTER", "REPLICATE", primary.id)
        until(lambda: node.client.info("replication").get("master_link_status") == "up")
        self.settle()
        return node

    def settle(self) -> None:
        """Wait until all know each other, and serve all slots."""
        alive = [node for node in self.nodes if node._process is not None]
        for node in alive:
            until(lambda node=node: self._is_settled(node, len(alive)))  # type: ignore[misc]

    def _is_settled(self, node: Node, known: int) -> bool:
        info = _text(node.ask("CLUSTER", "INFO"))
        return "cluster_state:ok" in info and f"cluster_known_nodes:{known}" in info

    def move_slot(self, slot: int, source: Node, target: Node) -> None:
        """Begin to move a slot: from now on its absent keys are asked for at the target."""
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)

    def move_keys(self, slot: int, source: Node, target: Node) -> int:
        """Move the keys of a slot; return how many."""
        keys = source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1000)
        for key in keys:
            source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        return len(keys)

    def end_move(self, slot: int, target: Node) -> None:
        """Have the slot be the target's."""
        owner = target.id
        for node in [target, *(one for one in self.nodes if one is not target)]:
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", owner)

    def close(self) -> None:
        """End all servers."""
        for node in self.nodes:
            node.kill()


def until(is_so: Any) -> None:
    """Wait for something; a server that is not there yet is waited for."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            if is_so():
                return
        except OSError:
            pass
        except Exception as error:
            if "Connection" not in type(error).__name__:
                raise
        assert time.monotonic() < deadline
        time.sleep(0.02)


def free_port() -> int:
    """Return a port that is free just now. It is drawn from those that no system gives by itself:
    two clusters that are made at once must not take each other's."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _text(answer: Any) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer)
