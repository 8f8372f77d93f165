"""What happens to two machines, and what of their promises must hold meanwhile.

In all of them machine a and machine b read all keys, and write keys of their own. The fault begins
at some time and is mended at another; `tick` goes on in between.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, NamedTuple

import redis

from .servers import Server, until
from .world import History, World

DELAY_S, JITTER_S, LOSS, DOUBLE = 0.05, 0.02, 0.05, 0.01


def _nothing(world: World) -> None:
    """Do nothing."""


class Scenario(NamedTuple):
    """One fault.

    Attributes:
        name, title: as on the command line, and in a line.
        fault, tick, heal: see `World.play`.
        options: of the World.
        judged: the machines whose every answer is judged; those of others only before the fault,
            and from when all have converged.
        may_lose: acknowledged writes may be lost, as Redis documents: they are counted.
        may_vanish: keys may be away at any time.
        after_s: it takes so long, at least, until all is as before.
        is_cut: somebody hears nothing of somebody: played for longer.
    """

    name: str
    title: str
    fault: Callable[[World], Any]
    heal: Callable[[World], Any] = _nothing
    tick: Callable[[World], Any] = _nothing
    options: Mapping[str, Any] = MappingProxyType({})
    judged: str = "ab"
    may_lose: bool = False
    may_vanish: bool = False
    after_s: float = 0.0
    is_cut: bool = False


# -- cuts -----------------------------------------------------------------------------------------

def _part_b(world: World) -> None:
    world.network.part(world.machines["b"].node)


def _unplug_b(world: World) -> None:
    world.network.unplug(world.machines["b"].node)


def _heal_network(world: World) -> None:
    world.network.heal()


def _deafen_b(world: World) -> None:
    """Have nothing of the connections that hear for b come through; whichever they are by now."""
    known = world.notes.setdefault("deaf", set())
    node = world.machines["b"].node
    for port in set(world.master.ports_of_listeners(node)) - known:
        known.add(port)
        world.master.node.ip(f"rule add to {node.address} ipproto tcp dport {port} type blackhole")


def _reset_listener_b(world: World) -> None:
    """Have the server close the connections that hear for b, twice a second."""
    if time.monotonic() < world.notes.get("reset", 0.0):
        return
    world.notes["reset"] = time.monotonic() + 0.5
    for one in world.master.client.client_list():
        if "t" in one["flags"] and one["addr"].startswith(f"{world.machines['b'].node.address}:"):
            world.master.client.client_kill_filter(_id=one["id"])


def _undeafen_b(world: World) -> None:
    node = world.machines["b"].node
    for port in world.notes.pop("deaf", ()):
        world.master.node.ip(f"rule del to {node.address} ipproto tcp dport {port} type blackhole")


def _mute_server(world: World) -> None:
    """Have the server hear b, and b not the server."""
    world.master.node.ip(f"route add blackhole {world.machines['b'].node.address}/32")


def _unmute_server(world: World) -> None:
    world.master.node.ip(f"route del blackhole {world.machines['b'].node.address}/32")


def _slow(world: World) -> None:
    for wire in world.network.wires:
        wire.set(DELAY_S, JITTER_S, LOSS, DOUBLE)


def _fast(world: World) -> None:
    for wire in world.network.wires:
        wire.set()


# -- processes ------------------------------------------------------------------------------------

def _kill_listener(world: World) -> None:
    world.machines["b"].listener.kill()


def _stop_listener(world: World) -> None:
    world.machines["b"].listener.stop()


def _continue_listener(world: World) -> None:
    world.machines["b"].listener.go_on()


def _stop_store(world: World) -> None:
    world.master.stop()


def _continue_store(world: World) -> None:
    world.master.go_on()


def _kill_store(world: World) -> None:
    world.notes["killed"] = time.monotonic()
    world.master.kill()


def _start_store(world: World) -> None:
    world.master.start()
    world.wipes.append((world.notes.pop("killed"), time.monotonic()))


# -- replicas and sentinels -----------------------------------------------------------------------

def _promoted(world: World) -> Server | None:
    """Return the server that the sentinels hold for master, if it is another one, and is."""
    named = {one.master() for one in world.sentinels}
    for server in world.servers[1:]:
        with suppress(redis.RedisError):
            if named == {server.node.address} and server.client.role()[0] == b"master":
                return server
    return None


def _note_failover(world: World) -> None:
    """Note when there was another master."""
    if "promoted" not in world.notes and _promoted(world) is not None:
        world.notes["promoted"] = time.monotonic()


def _part_replicas(world: World) -> None:
    world.network.part(*(one.node for one in world.servers[1:]))


def _stop_replica(world: World) -> None:
    world.servers[1].stop()


def _continue_replica(world: World) -> None:
    world.servers[1].go_on()


def _kill_replica(world: World) -> None:
    world.servers[1].kill()


def _start_replica(world: World) -> None:
    world.servers[1].start()


def _isolate_master(world: World) -> None:
    """Part the master, and machine a with it, from the rest, where the sentinels are."""
    world.network.part(world.master.node, world.machines["a"].node)


def _heal_failover(world: World) -> None:
    until(lambda: _promoted(world) is not None, "the sentinels name another master")
    _note_failover(world)
    world.network.heal()


def _kill_master(world: World) -> None:
    world.master.kill()


def _start_old_master(world: World) -> None:
    """It is made a replica by the sentinels."""
    until(lambda: _promoted(world) is not None, "the sentinels name another master")
    _note_failover(world)
    world.master.start()


# -- one after the other --------------------------------------------------------------------------

_FEW = ((_part_b, _heal_network), (_mute_server, _unmute_server), (_deafen_b, _undeafen_b),
        (_slow, _fast), (_reset_listener_b, _nothing), (_stop_store, _continue_store),
        (_stop_listener, _continue_listener))


def _one_of_few(world: World) -> None:
    """Mend what is broken, after a while, and break something else, after another."""
    draw = world.notes.setdefault("draw", random.Random(world.seed))
    if time.monotonic() < world.notes.get("due", 0.0):
        return
    mend = world.notes.pop("mend", None)
    if mend is not None:
        mend(world)
        world.notes["due"] = time.monotonic() + draw.uniform(0.1, 0.6)
        return
    breaks, world.notes["mend"] = draw.choice(_FEW)
    breaks(world)
    world.notes["due"] = time.monotonic() + draw.uniform(0.2, 1.2)


def _mend(world: World) -> None:
    world.notes.pop("mend", _nothing)(world)


# -- memory ---------------------------------------------------------------------------------------

def _fill_up(world: World) -> None:
    """Have no room for a write."""
    world.master.client.config_set("maxmemory-policy", "noeviction")
    world.master.client.config_set("maxmemory", "1mb")


def _evict(world: World) -> None:
    """Have the server remove what was used long ago."""
    client = world.master.client
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.config_set("maxmemory", str(client.info("memory")["used_memory"] + 300_000))


def _press(world: World) -> None:
    """Bring in what others need, so that it must."""
    pipe = world.master.client.pipeline(transaction=False)
    for _ in range(50):
        number = world.notes["pressed"] = world.notes.get("pressed", 0) + 1
        pipe.set(f"other:{number}", b"x" * 5000)
    with suppress(redis.RedisError):
        pipe.execute()


def _make_room(world: World) -> None:
    world.master.client.config_set("maxmemory", "0")


SENTINELS = {"with_sentinels": True}
CAREFUL = {"with_sentinels": True, "server_options": (
    "--min-replicas-to-write", "1", "--min-replicas-max-lag", "1", "--repl-ping-replica-period", "1"
)}
SCENARIOS = {one.name: one for one in (
    Scenario("machine", "b is cut off, without a word", _part_b, _heal_network,
             is_cut=True),
    Scenario("unplugged", "b's cable is pulled", _unplug_b, _heal_network,
             is_cut=True),
    Scenario("one-way", "b is heard, and hears nothing", _mute_server, _unmute_server,
             is_cut=True),
    Scenario("listener-cut", "b's tracking connections are cut, each of them", _deafen_b,
             _undeafen_b, _deafen_b, is_cut=True),
    Scenario("listener-reset", "b's tracking connection is closed, twice a second",
             _reset_listener_b, tick=_reset_listener_b),
    Scenario("slow", "50 ms +- 20 each way, 5 % lost, 1 % doubled", _slow, _fast,
             options={"with_wires": True, "timeout": 1.0}),
    Scenario("listener-killed", "b's listener is killed", _kill_listener),
    Scenario("listener-stopped", "b's listener is stopped", _stop_listener, _continue_listener),
    Scenario("store-stopped", "the store is stopped", _stop_store, _continue_store,
             is_cut=True),
    Scenario("store-emptied", "the store is killed, and begins empty", _kill_store, _start_store,
             may_lose=True),
    Scenario("replicas-cut", "the replicas are cut off", _part_replicas, _heal_network,
             options=SENTINELS),
    Scenario("replica-stopped", "a replica is stopped", _stop_replica, _continue_replica,
             options=SENTINELS),
    Scenario("replica-killed", "a replica is killed", _kill_replica, _start_replica,
             options=SENTINELS),
    Scenario("master-killed", "the master is killed: failover", _kill_master, _start_old_master,
             _note_failover, SENTINELS, may_lose=True),
    Scenario("split", "the master is cut off together with a: failover", _isolate_master,
             _heal_failover, _note_failover, SENTINELS, judged="b", may_lose=True,
             after_s=15.0, is_cut=True),
    Scenario("split-careful", "the same, `min-replicas-to-write` 1", _isolate_master,
             _heal_failover, _note_failover, CAREFUL, judged="b", may_lose=True,
             after_s=15.0, is_cut=True),
    Scenario("medley", "cuts, delays and stops by chance, one after the other", _nothing, _mend,
             _one_of_few, {"with_wires": True}),
    Scenario("full", "no memory is left: noeviction", _fill_up, _make_room),
    Scenario("evicting", "no memory is left: allkeys-lru", _evict, _make_room, _press,
             may_lose=True, may_vanish=True),
)}


def play(
    scenario: Scenario, seed: int, before_s: float, during_s: float, after_s: float
) -> tuple[History, dict[str, Any]]:
    """Play one; return its history, and what was noted of the fault."""
    with World.made(seed=seed, **scenario.options) as world:
        history = world.play(scenario.fault, scenario.tick, scenario.heal, before_s, during_s,
                             after_s)
        return history, world.notes
