"""What does the tuner of the shard count see, and what does it ask for, by shards and processes?"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any, NamedTuple

from ...core.machine import own_cores
from ...core.peer import unique_name
from ...core.progress import Progress
from ...core.results import Row
from ...core.scenario import Plot, Scenario, Setup, take_turns
from ...load.map_traffic import Dial, MapOpener, Opener, Store, TrafficLane, Users
from ...load.worker_pool import WorkerPool
from ...peers.own_map import filled_map, remove
from ..families import THE_MAP_ITSELF

ENTRIES = 10_000
PACE = 5_000.0  # operations a second, of all processes: the origin's threshold
FLAT_OUT, PACED, MIXED = "writes, flat out", f"{PACE:,.0f} writes/s", "5 % writes, flat out"
LOADS = {FLAT_OUT: 100.0, MIXED: 5.0, PACED: 100.0}  # percent of writes


class PacedOpener(NamedTuple):
    """Opens a map that a worker is to write to so many times a second."""

    name: str
    per_s: float

    def open(self) -> Store:
        """Attach."""
        store, wait_s = MapOpener(self.name).open(), 1 / self.per_s

        def put(key: str, value: bytes) -> None:
            store.put(key, value)
            time.sleep(wait_s)

        return store._replace(put=put)


class AutoShards(NamedTuple):
    """Every process writes existing keys, into maps that differ in shards; the tuner looks on."""

    name: str
    title: str
    plots: tuple[Plot, ...]
    family: str = THE_MAP_ITSELF
    quick: bool = False

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        scale = setup.scale
        settings = len(scale.shards) * len(self._processes(setup)) * len(LOADS)
        return settings * scale.experiment_repetitions

    def _processes(self, setup: Setup) -> list[int]:
        """List the numbers of processes of which one can wait for another."""
        return [processes for processes in setup.processes if processes > 1]

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Measure every load with every number of shards and of processes."""
        scale, counts = setup.scale, self._processes(setup)
        rows: list[Row] = []
        for processes in counts:
            with ExitStack() as stack:
                maps = []
                for shards in scale.shards:
                    maps.append(filled_map(unique_name(), ENTRIES, shards))
                    stack.callback(remove, maps[-1])
                each = PACE / processes
                openers: tuple[Opener, ...] = (
                    *[MapOpener(m.name) for m in maps], *[PacedOpener(m.name, each) for m in maps],
                )
                dial = Dial()
                pool = WorkerPool(
                    Users(openers, ENTRIES, tuple(LOADS.values()), processes, dial), processes,
                    own_cores(),
                )
                stack.callback(pool.close)
                lanes = [
                    SeenLane(
                        self.name, f"{processes} processes",
                        {"load": load, "shards": m.attachment.geometry.shards}, pool, dial,
                        (number + len(maps) * (load == PACED), list(LOADS).index(load)),
                        processes, scale.experiment_seconds,
                    ).of(m.attachment)
                    for load in LOADS for number, m in enumerate(maps)
                ]
                rows += take_turns(lanes, scale.experiment_repetitions, progress)
        return rows


class SeenLane(TrafficLane):
    """One load on one number of shards, as the tuner sees it."""

    attached: Any

    def of(self, attached: Any) -> SeenLane:
        """Say which map it is."""
        self.attached = attached
        self.seen: list[tuple[Any, Any]] = []
        return self

    def repeat(self, number: int) -> None:
        """Have the workers work once, between two looks."""
        from shmmap.moving.observing import observe

        before = observe(self.attached)
        super().repeat(number)
        self.seen.append((before, observe(self.attached)))

    def samples(self) -> dict[str, list[float]]:
        """Return the throughput, how many writes waited, and how long 99 of 100 did at most."""
        from shmmap.moving.tuning import between

        rounds = [between(*pair) for pair in self.seen]
        return {
            "per_s": super().samples()["per_s"],
            "share": [each.share() for each in rounds if not isinstance(each, str)],
            "waited_p99_ns": [1e9 * each.p99_s() for each in rounds if not isinstance(each, str)],
        }

    def facts(self) -> dict[str, Any]:
        """Tell how many of the repetitions, each a round, ask for more shards."""
        from shmmap.moving.tuning import AutoShards as Settings
        from shmmap.moving.tuning import Tuner

        now = self.attached.geometry.shards
        settings = Settings(least=1, most=4_096, rounds=1, pause=0.0, fill=0.0)
        asked = [Tuner(settings).decide(*pair).shards or now for pair in self.seen]
        return {**super().facts(), "rounds": len(asked), "more": sum(n > now for n in asked)}


AUTO_SHARDS = AutoShards(
    "auto-shards", f"writes into {ENTRIES:,} entries, as the tuner of the shard count sees them",
    (
        Plot("", "Writes that had to wait for the lock, as counted", "shards", "share", "xy"),
        Plot("waited", "99 of 100 writes waited at most", "shards", "waited_p99_ns", "x"),
    ),
)
SCENARIOS: tuple[Scenario, ...] = (AUTO_SHARDS,)
