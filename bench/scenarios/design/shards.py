"""What does each number of shards cost and gain, by the number of processes?"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, NamedTuple

from ...core.machine import own_cores
from ...core.peer import unique_name
from ...core.progress import Progress
from ...core.results import Row
from ...core.scenario import Plot, Scenario, Setup, take_turns
from ...core.timing import percentile
from ...core.workloads import KEY_BYTES, VALUE_BYTES
from ...load.map_traffic import Dial, MapOpener, TrafficLane, Users
from ...load.worker_pool import WorkerPool
from ...peers.own_map import filled_map, remove
from ..families import THE_MAP_ITSELF

ENTRIES = 10_000
ONLY_WRITES = 100.0


class Shards(NamedTuple):
    """Every process writes existing keys and nothing else, into maps that differ in shards."""

    name: str
    title: str
    plots: tuple[Plot, ...]
    family: str = THE_MAP_ITSELF
    quick: bool = True

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        scale = setup.scale
        settings = len(scale.shards) * len(setup.processes)
        return settings * scale.experiment_repetitions

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Measure every number of shards with every number of processes."""
        scale = setup.scale
        workers = max(setup.processes)
        dial = Dial()
        with ExitStack() as stack:
            maps = []
            for shards in scale.shards:
                maps.append(filled_map(unique_name(), ENTRIES, shards))
                stack.callback(remove, maps[-1])
            openers = tuple(MapOpener(m.name) for m in maps)
            pool = WorkerPool(
                Users(openers, ENTRIES, (ONLY_WRITES,), workers, dial), workers, own_cores()
            )
            stack.callback(pool.close)
            lanes = [
                ShardsLane(
                    self.name, "1 process" if processes == 1 else f"{processes} processes",
                    {"shards": m.attachment.geometry.shards}, pool, dial, (number, 0), processes,
                    scale.experiment_seconds,
                ).of(m.attachment.geometry)
                for processes in setup.processes
                for number, m in enumerate(maps)
            ]
            return take_turns(lanes, scale.experiment_repetitions, progress)


class ShardsLane(TrafficLane):
    """One number of shards, written to by some processes."""

    geometry: Any

    def of(self, geometry: Any) -> ShardsLane:
        """Say how the map is laid out."""
        self.geometry = geometry
        return self

    def samples(self) -> dict[str, list[float]]:
        """Add how often and how long locks were waited for, and what the shards take."""
        shape = self.geometry
        slots = shape.shards * shape.slots * shape.slot_size
        waited = [[ns for each in turn for ns in each.waited] for turn in self.repetitions]
        found = {
            **super().samples(),
            "share": [
                sum(each.waits for each in turn) / sum(each.writes for each in turn)
                for turn in self.repetitions
            ],
            "metadata_bytes": [shape.total_bytes - slots],
            "amplification": [shape.total_bytes / (ENTRIES * (KEY_BYTES + VALUE_BYTES))],
        }
        waits = [percentile(every, 0.99) for every in waited if every]
        return {**found, "wait_p99_ns": waits} if waits else found

    def facts(self) -> dict[str, Any]:
        """Add how many waits were timed: the p99 of few is their longest."""
        timed = sum(len(each.waited) for turn in self.repetitions for each in turn)
        return {**super().facts(), "timed_waits": timed, "slots": self.geometry.slots}


SHARDS = Shards(
    "shards", f"writes into {ENTRIES:,} entries, by number of shards",
    (
        Plot("", "Throughput of writes by number of shards", "shards", "per_s", "x"),
        Plot("contention", "Writes that had to wait for the lock", "shards", "share", "x"),
        Plot("waits", "Writes that had to wait: 99 of 100 took at most", "shards", "wait_p99_ns",
             "xy"),
        Plot("metadata", "Bytes that are not slots", "shards", "metadata_bytes", "xy"),
    ),
)
SCENARIOS: tuple[Scenario, ...] = (SHARDS,)
