"""How long does it take to find out where two stores differ, and how much is read for it?

`reconcile`: two redis-servers with the same keys; a share of them is written on one of them, and
then `tier.reconcile` makes both the same again. What is read is what the servers count as sent.
"""

from __future__ import annotations

import random
from contextlib import ExitStack
from importlib.util import find_spec
from shutil import which
from typing import Any, NamedTuple

from ..core.peer import unique_name
from ..core.progress import Progress
from ..core.results import Row
from ..core.scenario import Plot, Scenario, Setup, take_turns
from ..peers.server import Server
from .families import TIERED

SHARES = {"shmmap, none": 0.0, "shmmap, 0.01 %": 0.0001, "shmmap, 1 %": 0.01}
VALUE = {"name": "x" * 200, "number": 7}
AT_ONCE = 10_000


class Sites:
    """Two servers of our own, and a tier of each; all of it goes as it is closed."""

    def __init__(self) -> None:
        import redis

        import shmmap

        self.stack = ExitStack()
        self.clients: list[Any] = []
        self.tiers: list[Any] = []
        try:
            program = which("redis-server") or "redis-server"
            for _ in range(2):
                server = Server(lambda path: [
                    program, "--port", "0", "--unixsocket", path, "--save", "",
                ])
                self.stack.callback(server.stop)
                client = redis.Redis(unix_socket_path=server.socket)
                self.stack.callback(client.close)
                self.clients.append(client)
                m = shmmap.ShmMap.create(unique_name(), size="8MB", on_full="evict")
                self.stack.callback(m.close)
                self.stack.callback(m.unlink)
                tier = shmmap.Tiered(m, client, timeout=10, tombstones=3600)
                self.stack.callback(tier.close)
                self.tiers.append(tier)
        except BaseException:
            self.stack.close()
            raise

    def sent_bytes(self) -> int:
        """Return what both servers have sent until now."""
        return sum(client.info("stats")["total_net_output_bytes"] for client in self.clients)


class ReconcileLane:
    """One share of the keys differs."""

    def __init__(self, scenario: str, kind: str, setup: Setup) -> None:
        self.scenario, self.kind, self.problem = scenario, kind, ""
        self.keys = setup.scale.keys
        self.differ = round(self.keys * SHARES[kind])
        self.facts = {"keys": self.keys, "differ": self.differ}
        self.samples: dict[str, list[float]] = {"ms": [], "bytes": []}
        self.sites = Sites()
        try:
            here, there = self.sites.tiers
            for start in range(0, self.keys, AT_ONCE):
                here.set_many({
                    f"user:{at}": VALUE for at in range(start, min(start + AT_ONCE, self.keys))
                })
            here.reconcile(there)
        except BaseException:
            self.close()
            raise

    def repeat(self, number: int) -> None:
        """Write some on one site, and make both the same again."""
        here, there = self.sites.tiers
        for at in random.Random(number).sample(range(self.keys), self.differ):
            here[f"user:{at}"] = {**VALUE, "number": -number}
        before = self.sites.sent_bytes()
        report = here.reconcile(there)
        self.samples["ms"].append(report.seconds * 1e3)
        self.samples["bytes"].append(self.sites.sent_bytes() - before)
        if (report.compared, report.sent, report.received) != (self.keys, self.differ, 0):
            self.problem = f"it did something else: {report}"

    def row(self) -> Row:
        """Return what was found."""
        return Row.of(self.scenario, self.kind, self.samples, self.problem, {}, self.facts)

    def close(self) -> None:
        """End the servers, and remove the maps."""
        self.sites.stack.close()


class Reconciles(NamedTuple):
    """All shares take turns."""

    name: str = "reconcile"
    title: str = "two stores that differ become the same"
    family: str = TIERED
    quick: bool = False
    plots: tuple[Plot, ...] = ()

    def able(self) -> tuple[str, ...]:
        """List the shares, if there are servers."""
        there = find_spec("redis") is not None and which("redis-server") is not None
        return tuple(SHARES) if there else ()

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return len(self.able()) * setup.scale.experiment_repetitions

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Measure every share."""
        lanes = (ReconcileLane(self.name, kind, setup) for kind in self.able())
        return take_turns(lanes, setup.scale.experiment_repetitions, progress)


SCENARIOS: tuple[Scenario, ...] = (Reconciles(),)
