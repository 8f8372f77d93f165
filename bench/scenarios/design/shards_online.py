"""Does a map that got its shards online serve as many writers as one that was made with them?

One map is resized from one number of shards to the next while every process writes, and nobody
opens it anew. At each number its writers take turns with those of a map that was made with it.
"""

from __future__ import annotations

from contextlib import ExitStack
from threading import Thread
from typing import Any, NamedTuple

from ...core.machine import own_cores
from ...core.peer import unique_name
from ...core.progress import Progress
from ...core.results import Row
from ...core.scenario import Plot, Scenario, Setup, take_turns
from ...load.map_traffic import Dial, MapOpener, Users
from ...load.worker_pool import WorkerPool
from ...peers.own_map import filled_map, remove
from ..families import THE_MAP_ITSELF
from .shards import ENTRIES, ONLY_WRITES, ShardsLane

MADE, MOVED = "made so", "resized to it"


class ShardsOnline(NamedTuple):
    """See the module."""

    name: str = "shards-online"
    title: str = f"writes into {ENTRIES:,} entries of a map that is resized to more and more shards"
    plots: tuple[Plot, ...] = (
        Plot("", "Throughput of writes by number of shards, reached online", "shards", "per_s",
             "x"),
        Plot("contention", "Writes that had to wait, in shards reached online", "shards", "share",
             "x"),
    )
    family: str = THE_MAP_ITSELF
    quick: bool = False

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        scale = setup.scale
        return 2 * len(scale.shards) * len(setup.processes) * scale.experiment_repetitions

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Go from the least number of shards to the largest."""
        scale, rows = setup.scale, []
        workers = max(setup.processes)
        dial = Dial()
        with ExitStack() as stack:
            maps = []
            for shards in (scale.shards[0], *scale.shards):  # the first is the one that changes
                maps.append(filled_map(unique_name(), ENTRIES, shards))
                stack.callback(remove, maps[-1])
            pool = WorkerPool(
                Users(tuple(MapOpener(m.name) for m in maps), ENTRIES, (ONLY_WRITES,), workers,
                      dial),
                workers, own_cores(),
            )
            stack.callback(pool.close)
            for number, shards in enumerate(scale.shards):
                problem = self._move(maps[0], shards, pool, dial, scale.experiment_seconds)
                lanes = [
                    ShardsLane(
                        self.name, f"{way}, {processes} process{'es' * (processes > 1)}",
                        {"shards": shards}, pool, dial, (store, 0), processes,
                        scale.experiment_seconds,
                    ).of(maps[store].attachment.geometry)
                    for processes in setup.processes
                    for way, store in ((MADE, number + 1), (MOVED, 0))
                ]
                found = take_turns(lanes, scale.experiment_repetitions, progress)
                rows += [
                    row._replace(problem=row.problem or problem)
                    if row.peer.startswith(MOVED) else row for row in found
                ]
        return rows

    def _move(self, m: Any, shards: int, pool: WorkerPool, dial: Dial, seconds: float) -> str:
        """Have the map get so many shards while all write; say what went wrong, or ""."""
        dial.turn(0, 0)
        mover = Thread(target=m.resize, kwargs={"shards": shards})
        mover.start()
        wrong = [each.problem for each in pool.run(seconds) if each.problem]
        mover.join()
        if m.attachment.geometry.shards != shards:
            return f"the map has {m.attachment.geometry.shards} shards, not {shards}"
        if len(m) != ENTRIES:
            return f"{len(m)} of {ENTRIES} entries are left of the move"
        return wrong[0] if wrong else ""


SCENARIOS: tuple[Scenario, ...] = (ShardsOnline(),)
