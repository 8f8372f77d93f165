"""A run that is killed leaves no process, so no namespace; its folder goes with the next one."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pytest

from ...machines.network import Network
from ...machines.world import World, remove_of_dead_runs


def is_there(pid: int) -> bool:
    """Tell whether a process lives; one that nobody has reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def processes_of(world: World) -> list[int]:
    """Return all that a world has started."""
    nodes = [*world.network.nodes, world.network.switch]
    workers = [child for machine in world.machines.values()
               for child in (machine.listener, machine.writer, *machine.readers.values())]
    wires = [wire._child for wire in world.network.wires]
    servers = [server._process.pid for server in world.servers if server._process]
    return [*(node.holder.pid for node in nodes), *servers,
            *(child.pid for child in (*workers, *wires))]


def folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("machines-*-*"))


def test_a_run_that_is_killed(namespaces, start):
    def run(child):
        with World.made(with_wires=True) as world:
            child.tell((processes_of(world), world.folder))
            child.hear()

    child = start(run)
    pids, folder = child.hear()
    assert len(pids) == 4 + 1 + 10 + 2 and all(map(is_there, pids)) and folder in folders()
    child.kill()
    until = time.monotonic() + 10
    while any(map(is_there, pids)):
        assert time.monotonic() < until
        time.sleep(0.01)
    remove_of_dead_runs()
    assert folder not in folders()


def test_a_run_that_fails(namespaces):
    with pytest.raises(KeyError), Network.made() as network:
        pids = [network.node("a", has_shm=True, wire_seed=1).holder.pid, network.switch.holder.pid,
                network.wires[0]._child.pid]
        assert all(map(is_there, pids))
        raise KeyError("something")
    assert not any(map(is_there, pids))
