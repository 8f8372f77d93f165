"""What does it cost those who use a map that it takes another shape meanwhile?

Half of the processes read, half write (of one or two, one reads and one writes); one more moves the
map: to more shards, to fewer, to twice the size, to half of it. The control does the same work to
another map, which nobody uses: what its writers wait for is the scheduler. `resize-pause`: the
course of the longest writes, beside the naive ways. `resize-move`: the move alone.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from contextlib import closing
from typing import Any, NamedTuple

from ...core.progress import Progress
from ...core.results import OURS, Row
from ...core.scenario import Plot, Scenario, Setup
from ...load.moving_map import (
    BUCKET_NS,
    DURING,
    OTHER,
    PARTS,
    REBUILD,
    REPLACE,
    STEPS,
    MovingMap,
    Run,
    filled,
    move,
    shape_of,
    shm_bytes,
)
from ...load.worker_pool import Work, WorkerPool
from ...peers.own_map import affordable, remove
from ..families import THE_MAP_ITSELF

POINTS = 40  # of the course of a run
LOOK_S = 0.0005


class Resize(NamedTuple):
    """Every change, and the same of another map, in turns."""

    name: str = "resize"
    title: str = "reads and writes before, during and after a change of the map's shape"
    plots: tuple[Plot, ...] = ()
    family: str = THE_MAP_ITSELF
    quick: bool = False

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return 2 * len(users_of(setup)) * len(STEPS) * setup.scale.resize_repetitions

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Measure every change with every number of processes."""
        scale, rows = setup.scale, []
        entries = affordable(scale.resized)
        for users in users_of(setup):
            with closing(MovingMap(OURS, entries, users, scale.seconds)) as mine, closing(
                MovingMap(OTHER, entries, users, scale.seconds)
            ) as control:
                for repetition in range(scale.resize_repetitions):
                    for step in range(len(STEPS)):
                        for lane in (mine, control) if repetition % 2 else (control, mine):
                            lane.change(step)
                            progress.step()
                rows += [
                    row for change in STEPS for writes in (False, True)
                    for row in self._rows(mine, control, change.title, writes, users)
                ]
        return rows

    def _rows(
        self, mine: MovingMap, control: MovingMap, change: str, writes: bool, users: int
    ) -> list[Row]:
        rows = []
        for lane, parts in ((mine, PARTS), (control, (DURING,))):
            runs = lane.runs[change]
            for part in parts:
                samples = figures(runs, writes, part)
                if part == DURING and lane is mine:
                    alone = figures(control.runs[change], writes, part)["most_ns"]
                    samples["over_ns"] = [
                        most - other for most, other in zip(samples["most_ns"], alone, strict=True)
                    ]
                rows.append(Row.of(
                    self.name, lane.way, samples, "; ".join(lane.problems()[:1]),
                    {"change": change, "what": "writes" if writes else "reads", "when": part,
                     "processes": users},
                    {"timed": sum(run.spans(writes, part).count for run in runs)},
                ))
        return rows


def figures(runs: list[Run], writes: bool, part: str) -> dict[str, list[float]]:
    """Return throughput and latencies, a number for each run."""
    spans = [run.spans(writes, part) for run in runs]
    return {
        "per_s": [round(run.rate(writes, part)) for run in runs],
        **{name: [float(each.within(share)) if each.count else 0.0 for each in spans]
           for name, share in (("p50_ns", 0.5), ("p99_ns", 0.99), ("p999_ns", 0.999))},
        "most_ns": [float(each.most) for each in spans],
        "own_most_ns": [float(run.own_most(writes, part)) for run in runs],
    }


def users_of(setup: Setup) -> tuple[int, ...]:
    """Return how many processes use the map: at least one that reads and one that writes."""
    return tuple(sorted({max(2, processes) for processes in setup.processes}))


class Pause(NamedTuple):
    """One change in every way: the longest write that was under way, moment by moment."""

    name: str = "resize-pause"
    title: str = f"{STEPS[0].title}, in every way: the longest write under way, by the second"
    plots: tuple[Plot, ...] = (
        Plot("", "The longest write while a map gets 256 shards in place of 16", "second",
             "most_ns", "y"),
    )
    family: str = THE_MAP_ITSELF
    quick: bool = False

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return 4

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Have every way its turn."""
        scale, rows = setup.scale, []
        entries = affordable(scale.resized)
        for way in (OURS, OTHER, REPLACE, REBUILD):
            with closing(MovingMap(way, entries, 2, scale.seconds)) as lane:
                run = lane.change(0)
                problem = "; ".join(lane.problems()[:1])
                took_s = (run.moved.ended - run.moved.began) / 1e9
                rows += [
                    Row.of(self.name, way, {"most_ns": [float(span)]}, problem,
                           {"second": second}, {"took_s": round(took_s, 3)})
                    for second, span in points(run.course())
                ]
            progress.step()
        return rows


def points(course: dict[int, int]) -> list[tuple[float, int]]:
    """Return about POINTS points of a course: the second, and the longest until the next point.

    >>> points({-1: 5, 0: 3, 1: 4})
    [(-0.02, 5), (0.0, 3), (0.02, 4)]
    """
    width = -(-(max(course) - min(course) + 1) // POINTS)
    found: dict[int, int] = {}
    for slot, span in course.items():
        found[slot // width] = max(found.get(slot // width, 0), span)
    return [(round(at * width * BUCKET_NS / 1e9, 3), span) for at, span in sorted(found.items())]


class Alone(NamedTuple):
    """A pool's job: one process that moves a map which nobody uses meanwhile."""

    name: str
    entries: int
    orders: Any

    def begin(self, index: int) -> Work:
        """Attach."""
        return LoneMover(self)


class LoneMover:
    """Moves; its answer: ns, and seconds for which shards were held together at most."""

    def __init__(self, job: Alone) -> None:
        import shmmap

        self.job, self.m = job, shmmap.ShmMap.attach(job.name)

    def run(self, until_ns: int) -> tuple[int, float]:
        """Move once."""
        change = STEPS[self.job.orders[0]]
        began = time.monotonic_ns()
        held = move(self.m, shape_of(change, self.job.entries))
        return time.monotonic_ns() - began, held

    def close(self) -> None:
        """Detach."""
        self.m.close()


class Watch:
    """Looks, again and again, at what a map holds of /dev/shm, and its mover of memory of its own.

    Attributes:
        shm, private: bytes, at most.
    """

    def __init__(self, name: str, pid: int) -> None:
        self.shm = self.private = 0
        self._name, self._pid, self._stop = name, pid, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.shm = max(self.shm, shm_bytes(self._name))
            self.private = max(self.private, private_bytes(self._pid))


def private_bytes(pid: int) -> int:
    """Return what a process has of memory of its own."""
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


class Move(NamedTuple):
    """Every change, with nobody else at the map, some times over; then once more, watched.

    `peak_bytes`: what the map held of /dev/shm, at most; the larger of before and after, and one
    group more, is what is promised. The figures of memory are of the run that is watched, which is
    not timed.
    """

    name: str = "resize-move"
    title: str = "a change of the map's shape, nobody else at it: speed, and memory at its peak"
    plots: tuple[Plot, ...] = ()
    family: str = THE_MAP_ITSELF
    quick: bool = True

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return len(STEPS) * (setup.scale.resize_repetitions + 1)

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Measure every change."""
        lane = MoveLane(affordable(setup.scale.resized))
        with closing(lane):
            for _ in range(setup.scale.resize_repetitions):
                for step in range(len(STEPS)):
                    lane.change(step)
                    progress.step()
            for step in range(len(STEPS)):
                lane.watch(step)
                progress.step()
            return [lane.row(self.name, step) for step in range(len(STEPS))]


class MoveLane:
    """A map that one process moves."""

    def __init__(self, entries: int) -> None:
        self.entries = entries
        self.orders = multiprocessing.get_context("spawn").RawArray("i", 1)
        self.took: list[list[tuple[int, float]]] = [[] for _ in STEPS]
        self.memory: list[dict[str, int]] = [{} for _ in STEPS]
        self.problem = ""
        self.m = filled(entries)
        try:
            self.pool = WorkerPool(Alone(self.m.name, entries, self.orders), 1)
        except BaseException:
            remove(self.m)
            raise

    def change(self, step: int) -> None:
        """Move once."""
        self.orders[0] = step
        self.took[step] += self.pool.run(0.0)
        if len(self.m) != self.entries or self.m.attachment.geometry.shards != STEPS[step].shards:
            self.problem = self.problem or f"{len(self.m)} of {self.entries} entries were moved"

    def watch(self, step: int) -> None:
        """Move once, and look at the memory meanwhile."""
        pid = self.pool.processes[0].pid
        shards = self.m.attachment.geometry.shards
        before, alone = shm_bytes(self.m.name), private_bytes(pid)
        kept = self.took[step][:]
        with Watch(self.m.name, pid) as watch:
            self.change(step)
        self.took[step] = kept
        after = shm_bytes(self.m.name)
        groups = min(shards, STEPS[step].shards)
        self.memory[step] = {
            "peak_bytes": max(watch.shm, before, after),
            "private_bytes": max(0, watch.private - alone),
            "before": before, "after": after, "group": max(before, after) // groups,
        }

    def row(self, scenario: str, step: int) -> Row:
        """Return what was found of one change."""
        took, memory = self.took[step], self.memory[step]
        return Row.of(
            scenario, OURS,
            {"entries_per_s": [round(self.entries / ns * 1e9) for ns, _ in took],
             "ms": [ns / 1e6 for ns, _ in took],
             "held_most_ns": [held * 1e9 for _, held in took],
             "peak_bytes": [memory["peak_bytes"]], "private_bytes": [memory["private_bytes"]],
             "over_bytes": [memory["peak_bytes"] - max(memory["before"], memory["after"])]},
            self.problem, {"change": STEPS[step].title},
            {"before_bytes": memory["before"], "after_bytes": memory["after"],
             "group_bytes": memory["group"]},
        )

    def close(self) -> None:
        """End the mover and remove the map."""
        self.pool.close()
        remove(self.m)


SCENARIOS: tuple[Scenario, ...] = (Resize(), Pause(), Move())
