"""Two machines and what they share, on a network; what is done to it, and when; what was noted."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from shmmap.system.blocks import block

from ..support.children import Child
from .network import Network, Node, within
from .servers import Sentinel, Server, until
from .workers import KINDS, Answers, Deeds, Plan, listen, read, write

MACHINES = ("a", "b")
LIMIT_S = 1800


class Machine(NamedTuple):
    """A machine: its processes, of which the first one listens for it."""

    name: str
    node: Node
    listener: Child
    readers: dict[str, Child]
    writer: Child


class History(NamedTuple):
    """What came of a run, by machine, and for readers by consistency.

    Attributes:
        answers, deeds: of the workers.
        began, faulted, healed, ended: times.
        wipes: when the store lost its data: (from, to).
        keys: all that are written.
    """

    answers: dict[tuple[str, str], Answers]
    deeds: dict[str, Deeds]
    began: float
    faulted: float
    healed: float
    ended: float
    wipes: list[tuple[float, float]]
    keys: list[str]


def remove_of_dead_runs() -> None:
    """Remove the folders of runs that were killed; nothing else of them is left."""
    for folder in Path(tempfile.gettempdir()).glob("machines-*-*"):
        pid = folder.name.split("-")[1]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)


class World:
    """See the module; made by `World.made`.

    Attributes:
        network, servers, sentinels, machines: what there is. The first server begins as master.
        wipes: a fault that empties the store says here from when to when.
    """

    @staticmethod
    @block
    def made(**options: Any) -> Iterator[World]:
        """Make one, and take it away at the end."""
        with Network.made() as network:
            remove_of_dead_runs()
            folder = Path(tempfile.mkdtemp(prefix=f"machines-{os.getpid()}-"))
            world = World(network, folder)
            try:
                world._fill(**options)
                yield world
            finally:
                world._close()
                shutil.rmtree(folder, ignore_errors=True)

    def __init__(self, network: Network, folder: Path) -> None:
        self.network = network
        self.folder = folder
        self.servers: list[Server] = []
        self.sentinels: list[Sentinel] = []
        self.machines: dict[str, Machine] = {}
        self.wipes: list[tuple[float, float]] = []
        self.notes: dict[str, Any] = {}
        self.seed = 0
        self._keys: list[str] = []
        self._children: list[Child] = []

    def _fill(
        self, seed: int = 1, with_sentinels: bool = False, with_wires: bool = False,
        server_options: tuple[str, ...] = (), sentinels_period_ms: int = 0, **more: Any,
    ) -> None:
        """Start servers and machines. `sentinels_period_ms`: they speak as often, and do
        sooner what they do after so many of their periods; 0: as they do by themselves."""
        self.seed = seed
        add = self.network.node
        nodes = {name: add(name, has_shm=True, wire_seed=seed + n if with_wires else None)
                 for n, name in enumerate(MACHINES)}
        master = Server(add("master"), self.folder, *server_options)
        self.servers.append(master)
        if with_sentinels:
            for n in range(2):
                self.servers.append(Server(add(f"replica{n}"), self.folder, *server_options,
                                           "--replicaof", f"{master.node.address} 6379"))
            for n in range(3):
                self.sentinels.append(Sentinel(add(f"sentinel{n}"), self.folder,
                                               master.node.address))
        for server in (*self.servers, *self.sentinels):
            server.start()
        for sentinel in self.sentinels if sentinels_period_ms else ():
            sentinel.hurry(sentinels_period_ms)
        until(lambda: all(one.client.info("replication")["master_link_status"] == "up"
                          for one in self.servers[1:]), "the replicas follow")
        until(lambda: all(one.is_ready(2, 2) for one in self.sentinels), "the sentinels know all")
        plan = Plan(master.node.address, tuple(one.node.address for one in self.sentinels),
                    MACHINES, seed, more)
        self._keys = plan.keys()
        for name, node in nodes.items():
            first = self._start(node, partial(listen, plan))
            readers = {kind: self._start(node, partial(read, plan, kind, n))
                       for n, kind in enumerate(KINDS)}
            self.machines[name] = Machine(name, node, first, readers,
                                          self._start(node, partial(write, plan, name)))

    def _start(self, node: Node, work: Callable[[Child], Any]) -> Child:
        child = within(node, work, LIMIT_S)
        self._children.append(child)
        assert child.hear() == "ready"
        return child

    @property
    def master(self) -> Server:
        """Return the server that began as master."""
        return self.servers[0]

    def play(
        self, fault: Callable[[World], Any], tick: Callable[[World], Any],
        heal: Callable[[World], Any], before_s: float, during_s: float, after_s: float,
    ) -> History:
        """Have all read and write; do something to it, and mend it. `tick`: what is done ten times
        a second in between."""
        began = time.monotonic()
        time.sleep(before_s)
        faulted = time.monotonic()
        fault(self)
        while (left_s := faulted + during_s - time.monotonic()) > 0:
            tick(self)
            time.sleep(min(0.1, left_s))
        heal(self)
        healed = time.monotonic()
        time.sleep(after_s)
        ended = time.monotonic()
        workers = [(machine.name, kind, child) for machine in self.machines.values()
                   for kind, child in (*machine.readers.items(), ("", machine.writer))]
        for _, _, child in workers:
            child.tell("end")
        answers = {(name, kind): child.hear(60) for name, kind, child in workers if kind}
        writers = {name: child for name, kind, child in workers if not kind}
        for child in writers.values():
            assert child.hear(60) == "ended"
        deeds = {}
        for name, child in writers.items():
            child.tell("look")
            deeds[name] = child.hear(60)
        return History(answers, deeds, began, faulted, healed, ended, self.wipes, self._keys)

    def _close(self) -> None:
        for child in self._children:
            if child.status is None:
                child.kill()
        for server in (*self.sentinels, *self.servers):
            server.kill()
