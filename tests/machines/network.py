"""Machines as namespaces: each has a network of its own, and, if it holds maps, a /dev/shm.

    switch    a namespace with bridges; each node's cable ends in one of them
    node      a namespace with eth0, of 10.77.0.N, and perhaps with mounts of its own

Nothing here has a name outside: a namespace lives as long as the process that holds it, and what
is in it goes with it. The holders are killed with the run that made them, however that ends. So a
run that was killed leaves no namespace, no bridge and no cable.

To move a node's cable to another bridge parts the nodes without a word: packets go nowhere, and
no side is told. To set it down is a cable that is pulled: the node's side sees no carrier.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from shutil import which
from typing import Any

from shmmap.system.blocks import block

from ..support.children import Child, die_with_parent
from ..support.strangers import enter_own_shm, forget_creations, libc
from .wire import Wire

LIMIT_S = 1800  # that a namespace is held at most, whatever becomes of the run
SHM_SIZE = "64m"
BRIDGES = ("br0", "br1")
_CLONE_NEWNET, _CLONE_NEWNS = 0x40000000, 0x20000


class NotPermitted(Exception):
    """This machine, or this user, makes no namespaces; the text says which."""


def why_not() -> str:
    """Say what is missing for machines as namespaces; "": nothing."""
    if os.geteuid() != 0:
        return "needs root"
    if which("ip") is None:
        return "needs `ip` (apt-get install iproute2)"
    if which("redis-server") is None:
        return "needs redis-server (apt-get install redis-server)"
    try:
        with Network.made() as network:
            network.node("a", has_shm=True)
    except NotPermitted as error:
        return str(error)
    return ""


class Node:
    """A namespace on the network.

    Attributes:
        address: its IPv4 address.
        cable: what its end in the switch is called.
    """

    def __init__(self, name: str, number: int, holder: Child, has_shm: bool) -> None:
        self.name = name
        self.address = f"10.77.0.{number}"
        self.cable = f"v{number}"
        self.holder = holder
        self._net = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._mounts = -1
        if has_shm:
            self._mounts = os.open(f"/proc/{holder.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def enter(self) -> None:
        """Have this process, of one thread, live there from now on."""
        self.enter_network()
        if self._mounts >= 0:
            if libc.setns(self._mounts, _CLONE_NEWNS):
                raise NotPermitted("needs the right to enter mount namespaces")
            forget_creations()

    def enter_network(self) -> None:
        """Have this thread's sockets, from now on, be there."""
        if libc.setns(self._net, _CLONE_NEWNET):
            raise NotPermitted("needs the right to enter network namespaces")

    def spawn(self, *command: str, **more: Any) -> subprocess.Popen[bytes]:
        """Start a program there; it ends with this process."""
        def first() -> None:
            die_with_parent()
            self.enter_network()

        return subprocess.Popen(command, preexec_fn=first, **more)

    def ip(self, *lines: str) -> None:
        """Run commands of `ip` there."""
        made = self.spawn("ip", "-batch", "-", stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                          stdout=subprocess.PIPE)
        _, said = made.communicate("\n".join(lines).encode(), timeout=20)
        if made.returncode:
            raise NotPermitted(f"`ip` in a namespace of its own: {said.decode().strip()}")

    def close(self) -> None:
        """Let it go."""
        for descriptor in (self._net, self._mounts):
            if descriptor >= 0:
                os.close(descriptor)
        self._net = self._mounts = -1
        if self.holder.status is None:
            self.holder.kill()


class Network:
    """A switch, and the nodes at it."""

    @staticmethod
    @block
    def made() -> Iterator[Network]:
        """Make one, and take it away at the end."""
        network = Network()
        try:
            yield network
        finally:
            network.close()

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.wires: list[Wire] = []
        self.switch = Node("switch", 0, _hold(False), False)
        try:
            self.switch.ip(*(line for bridge in BRIDGES for line in (
                f"link add {bridge} type bridge", f"link set {bridge} up")))
        except BaseException:
            self.close()
            raise

    def node(self, name: str, has_shm: bool = False, wire_seed: int | None = None) -> Node:
        """Add a node. `has_shm`: it gets a /dev/shm of its own. `wire_seed`: its cable is a `Wire`,
        which can delay, lose and double packets."""
        number = len(self.nodes) + 1
        node = Node(name, number, _hold(has_shm), has_shm)
        self.nodes.append(node)
        if wire_seed is None:
            self.switch.ip(f"link add {node.cable} type veth peer name eth0 netns "
                           f"{node.holder.pid}")
        else:
            self.wires.append(Wire(node.enter_network, self.switch.enter_network, node.cable,
                                   wire_seed))
        self.switch.ip(f"link set {node.cable} master {BRIDGES[0]} up")
        node.ip("link set lo up", f"addr add {node.address}/24 dev eth0", "link set eth0 up")
        return node

    def part(self, *nodes: Node) -> None:
        """Have these reach only each other."""
        self.switch.ip(*(f"link set {node.cable} master {BRIDGES[1]}" for node in nodes))

    def unplug(self, *nodes: Node) -> None:
        """Pull their cables."""
        self.switch.ip(*(f"link set {node.cable} down" for node in nodes))

    def heal(self) -> None:
        """Have all reach all again."""
        self.switch.ip(*(f"link set {node.cable} master {BRIDGES[0]} up" for node in self.nodes))

    def close(self) -> None:
        """Take everything away."""
        for wire in self.wires:
            wire.close()
        for node in (*self.nodes, self.switch):
            node.close()


def _hold(has_shm: bool) -> Child:
    """Start a process that holds a namespace."""
    def work(child: Child) -> None:
        signal.alarm(LIMIT_S)
        if libc.unshare(_CLONE_NEWNET):
            child.tell("needs the right to make network namespaces (CAP_SYS_ADMIN)")
        elif has_shm and not enter_own_shm(SHM_SIZE):
            child.tell("needs the right to mount a tmpfs (CAP_SYS_ADMIN)")
        else:
            child.tell("")
        while True:
            signal.pause()

    holder = Child(work)
    try:
        trouble = holder.hear()
    except BaseException:
        holder.kill()
        raise
    if trouble:
        holder.kill()
        raise NotPermitted(trouble)
    return holder


def within(node: Node, work: Callable[[Child], Any], limit_s: float) -> Child:
    """Start work(child) in a process of a node, which ends after `limit_s` at the latest."""
    def inside(child: Child) -> Any:
        signal.alarm(int(limit_s))
        node.enter()
        return work(child)

    return Child(inside)
