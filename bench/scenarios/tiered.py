"""What does a near cache for the whole machine bring in front of redis, and how late is the news?

`tiered`: two machines of four workers each read 10,000 keys by a Zipf law, and write one in fifty.
Beside `Tiered`: redis-py, redis-py's client-side cache (a copy and a connection for invalidations
in each process), and the map alone, each machine its own, which is what a hit can cost at best. How
many requests reach the store is what the server counts. Memory is what the workers have alone, and
the map's pages.

`tiered-hit`: one process reads a few keys that nobody writes. `tiered-news`: one key is written on
one machine; how long after that was acknowledged does another machine read the new value?
`tiered-storm`: 100,000 keys are copied by one machine, and written on another; how long until the
first has taken out all of them? `tiered-write`: one process writes; how long does a write take, and
how many are in the store a second, if it waits for the last of them?
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any, NamedTuple

from ..core.peer import unique_name
from ..core.progress import Progress
from ..core.results import OURS, Row
from ..core.scenario import Plot, Scenario, Setup, take_turns
from ..core.timing import collector_off, percentile
from ..load.tiered_machines import (
    ALONE,
    BEHIND,
    BOUND_S,
    CACHED,
    KINDS,
    PLAIN,
    PREFIX,
    READS_OF_FEW,
    MachinesJob,
    Served,
    key_of,
    opened,
)
from ..load.worker_pool import WorkerPool
from ..peers.server import Server
from .families import TIERED

MACHINES, A_MACHINE = 2, 4
WRITE_SHARE = 0.02
VALUE = b"x" * 100
WRITES = 5_000  # in a repetition
NEWS = 200  # writes whose news is waited for, in a repetition
LATE_S = 10.0


class Place:
    """A redis of our own, and the maps of machines; all of it goes as it is closed."""

    def __init__(self, machines: int, size: str = "32MB") -> None:
        self.stack = ExitStack()
        try:
            program = which("redis-server") or "redis-server"
            server = Server(lambda path: [
                program, "--port", "0", "--unixsocket", path, "--save", "", "--maxclients", "512",
            ])
            self.stack.callback(server.stop)
            self.address = server.socket
            self.machines = tuple(unique_name() for _ in range(machines))
            self.maps = [self._make(machine, size) for machine in self.machines]
            import redis

            self.client = redis.Redis(unix_socket_path=self.address)
            self.stack.callback(self.client.close)
        except BaseException:
            self.close()
            raise

    def _make(self, machine: str, size: str) -> Any:
        import shmmap

        m = shmmap.ShmMap.create(machine, size=size, on_full="evict", value_size=150)
        self.stack.callback(m.close)
        self.stack.callback(m.unlink)
        return m

    def fill(self, kind: str, keys: int) -> None:
        """Write every key as this kind of cache does."""
        with ExitStack() as stack:
            for machine in self.machines if kind == ALONE else self.machines[:1]:
                client = opened(kind, self.address, machine, stack)
                for number in range(keys):
                    client.set(key_of(number), VALUE)

    def requests(self, *commands: str) -> int:
        """Return how many of these the server has processed."""
        seen = self.client.info("commandstats")
        return sum(int(seen.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in commands)

    def shared_bytes(self) -> int:
        """Return the pages of the maps."""
        return sum(
            file.stat().st_blocks * 512 for file in Path("/dev/shm").iterdir()
            if any(machine in file.name for machine in self.machines)
        )

    def close(self) -> None:
        """End the server, and remove the maps."""
        self.stack.close()


class Tiers(NamedTuple):
    """All kinds take turns."""

    name: str
    title: str
    lane: type
    kinds: tuple[str, ...]
    plots: tuple[Plot, ...] = ()
    quick: bool = False
    family: str = TIERED

    def able(self) -> tuple[str, ...]:
        """List the kinds that can be had."""
        there = find_spec("redis") is not None and which("redis-server") is not None
        return self.kinds if there else ()

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return len(self.able()) * setup.scale.experiment_repetitions

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Measure every kind."""
        lanes = (self.lane(self.name, kind, setup) for kind in self.able())
        return take_turns(lanes, setup.scale.experiment_repetitions, progress)


class CrowdLane:
    """Workers of two machines."""

    def __init__(self, scenario: str, kind: str, setup: Setup) -> None:
        self.scenario, self.kind = scenario, kind
        self.seconds = setup.scale.experiment_seconds
        self.samples: dict[str, list[float]] = {
            "per_s": [], "p50_ns": [], "p99_ns": [], "asked_per_s": [], "bytes": [],
        }
        if kind in (OURS, CACHED):
            self.samples["near_percent"] = []
        self.problem = ""
        keys = min(setup.scale.keys, 10_000)
        self.facts = {"machines": MACHINES, "workers": MACHINES * A_MACHINE, "keys": keys,
                      "writes_in_100": WRITE_SHARE * 100}
        self.place = Place(MACHINES)
        try:
            self.place.fill(kind, keys)
            job = MachinesJob(kind, self.place.address, self.place.machines, keys, VALUE,
                              WRITE_SHARE)
            self.pool = WorkerPool(job, MACHINES * A_MACHINE)
            self.place.stack.callback(self.pool.close)
        except BaseException:
            self.close()
            raise

    def repeat(self, number: int) -> None:
        """Have all of them work for a while."""
        commands = ("get", "pttl", "set", "ping")
        before, gets = self.place.requests(*commands), self.place.requests("get")
        served: list[Served] = self.pool.run(self.seconds)
        self.note(served, self.place.requests(*commands) - before,
                  self.place.requests("get") - gets)

    def note(self, served: list[Served], requests: int, gets: int) -> None:
        """Note the figures, and what is wrong in them."""
        window_s = (max(one.ended for one in served) - min(one.begun for one in served)) / 1e9
        reads = sum(one.reads for one in served)
        writes = sum(one.writes for one in served)
        took = [ns for one in served for ns in one.took_ns]
        self.samples["per_s"].append(round((reads + writes) / window_s))
        self.samples["p50_ns"].append(percentile(took, 0.5))
        self.samples["p99_ns"].append(percentile(took, 0.99))
        self.samples["asked_per_s"].append(round(requests / window_s))
        shared = self.place.shared_bytes() if self.kind in (OURS, ALONE) else 0
        self.samples["bytes"].append(sum(one.private_bytes for one in served) + shared)
        if "near_percent" in self.samples:
            self.samples["near_percent"].append(100 * (1 - gets / reads))
        if wrong := sum(one.wrong for one in served):
            self.problem = f"{wrong} of {reads} answers were wrong"

    def row(self) -> Row:
        """Return what was found."""
        return Row.of(self.scenario, self.kind, self.samples, self.problem, {}, self.facts)

    def close(self) -> None:
        """End the workers, the server and the maps."""
        self.place.close()


class HitLane(CrowdLane):
    """One process reads keys that nobody writes."""

    def __init__(self, scenario: str, kind: str, setup: Setup) -> None:
        self.scenario, self.kind, self.problem = scenario, kind, ""
        self.facts = {"keys": READS_OF_FEW}
        self.rounds = 20 if kind == PLAIN else 2_000
        self.samples = {"ns": []}
        self.place = Place(1)
        try:
            self.place.fill(kind, READS_OF_FEW)
            self.client = opened(kind, self.place.address, self.place.machines[0],
                                 self.place.stack)
            self.keys = [key_of(number) for number in range(READS_OF_FEW)]
        except BaseException:
            self.close()
            raise

    def repeat(self, number: int) -> None:
        """Read them again and again."""
        get, keys, rounds = self.client.get, self.keys, self.rounds
        if [get(key) for key in keys] != [VALUE] * len(keys):
            self.problem = "an answer was wrong"
        with collector_off():
            start = time.perf_counter_ns()
            for _ in range(rounds):
                for key in keys:
                    get(key)
            self.samples["ns"].append((time.perf_counter_ns() - start) / rounds / len(keys))


class NewsLane(CrowdLane):
    """One machine writes a key, another one reads it until it sees that."""

    def __init__(self, scenario: str, kind: str, setup: Setup) -> None:
        self.scenario, self.kind, self.problem = scenario, kind, ""
        self.facts = {"writes": NEWS}
        self.samples = {"p50_ns": [], "p99_ns": [], "most_ns": []}
        self.place = Place(2)
        try:
            self.writer, self.reader = (
                opened(kind, self.place.address, machine, self.place.stack)
                for machine in self.place.machines
            )
            self.written = 0
        except BaseException:
            self.close()
            raise

    def repeat(self, number: int) -> None:
        """Write and wait for the news, again and again."""
        get, put, now = self.reader.get, self.writer.set, time.perf_counter_ns
        took = []
        time.sleep(2 * BOUND_S if not self.written else 0)  # until somebody listens
        for _ in range(NEWS):
            self.written += 1
            value = b"%d" % self.written
            get("news")  # it has a copy
            put("news", value)
            start = now()
            while get("news") != value:
                if now() - start > LATE_S * 1e9:
                    self.problem = f"no news for {LATE_S:g} s"
                    return
            took.append(now() - start)
        self.samples["p50_ns"].append(percentile(took, 0.5))
        self.samples["p99_ns"].append(percentile(took, 0.99))
        self.samples["most_ns"].append(max(took))


class WriteLane(CrowdLane):
    """One process writes one key after another."""

    def __init__(self, scenario: str, kind: str, setup: Setup) -> None:
        self.scenario, self.kind, self.problem = scenario, kind, ""
        self.facts = {"writes": WRITES}
        self.samples = {"p50_ns": [], "p99_ns": [], "per_s": []}
        self.place = Place(1)
        try:
            self.client = opened(kind, self.place.address, self.place.machines[0],
                                 self.place.stack)
        except BaseException:
            self.close()
            raise

    def repeat(self, number: int) -> None:
        """Write them, and wait until the store has them."""
        put, now = self.client.set, time.perf_counter_ns
        keys = [key_of(at) for at in range(WRITES)]
        took = []
        begun = now()
        with collector_off():
            for key in keys:
                start = now()
                put(key, VALUE)
                took.append(now() - start)
        self.client.flush()
        self.samples["per_s"].append(round(WRITES / (now() - begun) * 1e9))
        self.samples["p50_ns"].append(percentile(took, 0.5))
        self.samples["p99_ns"].append(percentile(took, 0.99))
        if self.place.client.dbsize() != WRITES:
            self.problem = f"{self.place.client.dbsize():,} of {WRITES:,} are in the store"


class StormLane(CrowdLane):
    """Everything that a machine has copied changes at once."""

    def __init__(self, scenario: str, kind: str, setup: Setup) -> None:
        import shmmap

        self.scenario, self.kind, self.problem = scenario, kind, ""
        self.keys = [key_of(number) for number in range(setup.scale.keys)]
        self.facts = {"keys": len(self.keys)}
        self.samples = {"ms": []}
        self.place = Place(2, "96MB")
        try:
            self.writer, self.reader = (
                shmmap.Tiered(shmmap.ShmMap(machine), f"unix://{self.place.address}",
                              prefix=PREFIX, max_staleness=BOUND_S)
                for machine in self.place.machines
            )
            for tier in (self.writer, self.reader):
                self.place.stack.callback(tier.map.close)
                self.place.stack.callback(tier.close)
        except BaseException:
            self.close()
            raise

    def repeat(self, number: int) -> None:
        """Copy all, write all elsewhere, and wait until the copies are gone."""
        pairs = dict.fromkeys(self.keys, VALUE)
        self.writer.set_many(pairs)
        time.sleep(2 * BOUND_S)  # until the news of that is old
        self.reader.get_many(self.keys)
        left = len(self.reader.map)
        if left < 0.9 * len(self.keys):
            self.problem = f"{left:,} of {len(self.keys):,} copies were kept"
        start = time.perf_counter_ns()
        self.writer.set_many(pairs)
        while len(self.reader.map) > 0.01 * len(self.keys):
            if time.perf_counter_ns() - start > LATE_S * 1e9:
                self.problem = f"{len(self.reader.map):,} copies were left after {LATE_S:g} s"
                break
            time.sleep(0.001)
        self.samples["ms"].append((time.perf_counter_ns() - start) / 1e6)


SCENARIOS: tuple[Scenario, ...] = (
    Tiers("tiered", f"{MACHINES} machines of {A_MACHINE} workers, one redis", CrowdLane, KINDS,
          (Plot("", "Two machines, one redis: operations a second", "", "per_s", "y"),
           Plot("asked", "Two machines, one redis: requests to it a second", "", "asked_per_s"))),
    Tiers("tiered-hit", "a read of what is copied, one process", HitLane, KINDS,
          (Plot("", "A read of what is copied", "", "ns", "y"),)),
    Tiers("tiered-news", "until a write on one machine is read on another", NewsLane,
          (OURS, PLAIN, CACHED)),
    Tiers("tiered-write", "a write, one process", WriteLane, (OURS, BEHIND, PLAIN)),
    Tiers("tiered-storm", "every copy of a machine changes at once", StormLane, (OURS,)),
)
