"""At which share of writes does each design of a shared map break?"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from ...core.machine import own_cores
from ...core.peer import unique_name
from ...core.progress import Progress
from ...core.results import OURS, Row
from ...core.scenario import Plot, Scenario, Setup, take_turns
from ...core.workloads import Scale, key_of, value_of
from ...load.map_traffic import Dial, MapOpener, Opener, TrafficLane, Users
from ...load.worker_pool import WorkerPool
from ...peers.own_map import filled_map, remove
from ..families import THE_MAP_ITSELF
from .copy_on_write import CopyOnWrite, CopyOpener
from .locked_reads import LockedOpener, locked_reads

SHARDS = 64
ONE_LOCK = "one lock for all"
LOCKED = "sharded locks, reads lock"
COPIED = "copy on write"
BROKEN = 0.5  # a design breaks where it has less than this of our throughput


class Designs(NamedTuple):
    """Processes read and write keys at random, in maps of different design.

    One lock for all, and sharded locks with locked reads, are our own map with one module built
    differently; its lock-free reads are the map as it is; copy on write is written in the bench.
    """

    name: str
    title: str
    entries: int
    plots: tuple[Plot, ...]
    quick: bool
    family: str = THE_MAP_ITSELF

    def steps(self, setup: Setup) -> int:
        """Count the progress steps: the build, and the turns of all designs."""
        scale = setup.scale
        points = len(scale.write_shares) * scale.experiment_repetitions
        return 4 * points + 1 if scale.builds else 2 * points

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Measure every design at every write share; say where each breaks."""
        scale = setup.scale
        with ExitStack() as stack:
            openers, skipped = self.openers(stack, scale.builds, progress)
            workers = max(2, min(len(own_cores()), max(setup.processes)))
            lanes = self.lanes(stack, openers, workers, scale)
            rows = take_turns(lanes, scale.experiment_repetitions, progress)
            if scale.builds and skipped:
                for _ in range(2 * len(scale.write_shares) * scale.experiment_repetitions):
                    progress.step()
        broken = breaks(rows)
        left_out = {"skipped": skipped} if skipped else {}
        return [
            row._replace(facts={**row.facts, **broken[row.peer], **left_out}) for row in rows
        ]

    def openers(
        self, stack: ExitStack, builds: bool, progress: Progress
    ) -> tuple[dict[str, Opener], str]:
        """Make and fill a store of each design; also say why some are left out, if they are."""
        def made(shards: int) -> str:
            m = filled_map(unique_name(), self.entries, shards)
            stack.callback(remove, m)
            return str(m.name)

        name, lock = unique_name(), multiprocessing.get_context("spawn").Lock()
        copied = CopyOnWrite.create(
            name, lock, {key: value_of(key) for key in map(key_of, range(self.entries))}
        )
        stack.callback(copied.remove)
        found: dict[str, Opener] = {OURS: MapOpener(made(SHARDS)), COPIED: CopyOpener(name, lock)}
        if not builds:
            return found, "designs whose reads lock are built in full runs only"
        build = locked_reads()
        progress.step()
        if build.problem:
            return found, build.problem
        made_here = tempfile.TemporaryDirectory(prefix="shmmap-bench-build-")
        file = Path(stack.enter_context(made_here)) / build.file
        file.write_bytes(build.content)
        return {
            **found,
            ONE_LOCK: LockedOpener(made(1), str(file)),
            LOCKED: LockedOpener(made(SHARDS), str(file)),
        }, ""

    def lanes(
        self, stack: ExitStack, openers: dict[str, Opener], workers: int, scale: Scale
    ) -> list[TrafficLane]:
        """Start a pool for each design; return its lanes, one for each write share."""
        pools: dict[str, tuple[WorkerPool, Dial]] = {}
        for design, opener in openers.items():
            dial = Dial()
            job = Users((opener,), self.entries, scale.write_shares, workers, dial)
            pools[design] = WorkerPool(job, workers, own_cores()), dial
            stack.callback(pools[design][0].close)
        return [
            TrafficLane(
                self.name, design, {"write_share": share}, *pools[design], (0, number), workers,
                scale.experiment_seconds,
            )
            for number, share in enumerate(scale.write_shares)
            for design in openers
        ]


def breaks(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return for each design, as a fact, the least write share in percent at which it has less than
    half of our throughput; none if it has not at any."""
    ours = {row.point["write_share"]: row.median("per_s") for row in rows if row.peer == OURS}
    found: dict[str, dict[str, float]] = {row.peer: {} for row in rows}
    for row in sorted(rows, key=lambda row: float(row.point["write_share"]), reverse=True):
        share = row.point["write_share"]
        if row.median("per_s") < BROKEN * ours[share]:
            found[row.peer] = {"breaks_at": share}
    return found


def _designs(entries: int, quick: bool) -> Designs:
    return Designs(
        f"designs-{entries}", f"designs by write share, {entries:,} entries", entries,
        (
            Plot("", f"Throughput by write share, {entries:,} entries", "write_share", "per_s",
                 "xy"),
            Plot("p99", f"99 of 100 operations, {entries:,} entries", "write_share", "p99_ns",
                 "xy"),
        ),
        quick,
    )


SCENARIOS: tuple[Scenario, ...] = (_designs(1_000, True), _designs(10_000, False))
