"""A map that takes another shape while processes read and write it.

Worker 0 changes the shape, the others use the map from some time before until some time after:
each single operation is timed, and belongs to the part of the run in which it was under way. Every
write is known, and read back in the end, so none may get lost.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from typing import Any, NamedTuple

from ..core.peer import unique_name
from ..core.workloads import SEED, VALUE_BYTES, key_of
from ..peers.own_map import all_locks
from .histogram import Histogram
from .operation_log import Log
from .worker_pool import Work, WorkerPool

# How a map gets its other shape.
REBUILD = "all locks, rebuild"
REPLACE = 'on_mismatch="replace"'
OTHER = "(another map moves)"  # the same work of the same process, and nobody uses that map
BEFORE, DURING, AFTER = PARTS = ("before", "during", "after")
PLAN = 32_768  # keys of a worker until they come again
PATIENCE_S = 100.0  # for a lock: the ways that hold all of them hold them for long
BUCKET_NS = 20_000_000  # of the course of a run
LOOK_EVERY = 32  # operations, whether the run is over
LONG_NS = 50_000  # of an operation that is longer it is asked what it waited for a processor


class Change(NamedTuple):
    """A change of a map's shape.

    Attributes:
        title: as in the tables.
        shards: how many it is to have.
        room: for how many times its entries.
    """

    title: str
    shards: int
    room: float


FEW, MANY = 16, 256
STEPS = (  # in turns: each begins where the one before ends, the first where the last ends
    Change(f"{FEW} to {MANY} shards", MANY, 1.0),
    Change(f"{MANY} to {FEW} shards", FEW, 1.0),
    Change("twice the size", FEW, 2.0),
    Change("half the size", FEW, 1.0),
)


def written_value(label: bytes, turn: int) -> bytes:
    """Return what a key gets by its writer's n-th write; 0: what it was filled with.

    >>> written_value(b"k000000000000007", 3)[:33]
    b'k000000000000007 0000000000000003'
    """
    return (b"%b %016d" % (label, turn)).ljust(VALUE_BYTES, b".")


class Clock:
    """When the change of a run began and ended, for all workers to see; 0: not yet."""

    def __init__(self) -> None:
        self.words = multiprocessing.get_context("spawn").RawArray("q", 2)

    def reset(self) -> None:
        """Begin anew."""
        self.words[:] = (0, 0)


class Use(NamedTuple):
    """A pool's job: worker 0 changes the shape, of the rest the first half writes.

    Attributes:
        name: of the map.
        other: of one that nobody uses.
        entries: that it has.
        users: how many workers use it.
        way: how it gets its shape.
        rest_s: for how long it is used after that.
        clock: see there.
        orders: says which of STEPS is next.
    """

    name: str
    other: str
    entries: int
    users: int
    way: str
    rest_s: float
    clock: Clock
    orders: Any

    def begin(self, index: int) -> Work:
        """Attach."""
        return Mover(self) if index == 0 else User(self, index - 1)


class Moved(NamedTuple):
    """What a change took.

    Attributes:
        began, ended: on the clock of all processes.
        longest_hold: seconds for which shards were held together, at most.
    """

    began: int
    ended: int
    longest_hold: float


class Mover:
    """Changes the shape of a map, at the time until which it is to "work"."""

    def __init__(self, job: Use) -> None:
        import shmmap

        self.job = job
        self.m = shmmap.ShmMap(
            job.other if job.way == OTHER else job.name, lock_timeout=PATIENCE_S
        )

    def run(self, until_ns: int) -> Moved:
        """Do it once."""
        job, words = self.job, self.job.clock.words
        change = STEPS[job.orders[0]]
        while (left := until_ns - time.monotonic_ns()) > 0:
            time.sleep(left / 1e9)
        held = 0.0
        words[0] = time.monotonic_ns()
        try:
            held = self._change(change)
        finally:
            words[1] = time.monotonic_ns()
        time.sleep(job.rest_s)
        return Moved(words[0], words[1], held)

    def _change(self, change: Change) -> float:
        import shmmap

        job = self.job
        shape = shape_of(change, job.entries)
        if job.way == REPLACE:
            former, self.m = self.m, shmmap.ShmMap(
                job.name, lock_timeout=PATIENCE_S, on_mismatch="replace", **shape
            )
            former.close()  # the new map stays open: the last to leave it would remove it
            return 0.0
        if job.way == REBUILD:
            name = f"{job.other}-rebuilt"
            with all_locks(self.m):
                began = time.monotonic()
                with shmmap.ShmMap.create(name, ephemeral=True, **shape) as built:
                    built.set_many(self.m.items())
                    if len(built) != job.entries:
                        raise ValueError(f"{len(built)} of {job.entries} entries were rebuilt")
                    held = time.monotonic() - began
                    built.unlink()
            return held
        return move(self.m, shape)

    def close(self) -> None:
        """Detach."""
        self.m.close()


def move(m: Any, shape: dict[str, Any]) -> float:
    """Have a map move; return for how many seconds shards were held together, at most."""
    held = [0.0]

    def note(progress: Any) -> None:
        held[0] = max(held[0], progress.longest_hold)

    m.resize(**shape, progress=note)
    return held[0]


def shape_of(change: Change, entries: int) -> dict[str, Any]:
    """Return the parameters of a map's shape."""
    return {"shards": change.shards, "capacity": int(entries * change.room),
            "value_size": VALUE_BYTES}


class Part(NamedTuple):
    """What a user did in one part of a run.

    Attributes:
        operations: how many.
        ns: how long that part was.
        spans: the nanoseconds of each.
        own_most: of the longest, less what it waited for a processor.
    """

    operations: int
    ns: int
    spans: Histogram
    own_most: int


class Used(NamedTuple):
    """What a user did.

    Attributes:
        writes: or else it reads.
        parts: by their names.
        course: the longest operation that was under way in each BUCKET_NS since the change began.
        problem: what was answered wrongly.
    """

    writes: bool
    parts: dict[str, Part]
    course: dict[int, int]
    problem: str


class User:
    """A worker that reads all keys, or writes its own."""

    def __init__(self, job: Use, index: int) -> None:
        import shmmap

        self.job = job
        self.m = shmmap.ShmMap(job.name, lock_timeout=PATIENCE_S, on_unlinked="reopen")
        writers = max(1, job.users // 2)
        self.writes = index < writers
        rng = random.Random(f"{SEED} {index}")
        mine = range(index, job.entries, writers) if self.writes else range(job.entries)
        self.keys = [key_of(rng.choice(mine)) for _ in range(min(PLAN, job.entries))]
        self.labels = [key.encode() for key in self.keys]
        self.turn = 0

    def run(self, until_ns: int) -> Used:
        """Read or write until the change is over, and a while longer."""
        log = Log()
        try:
            problem = self._write(log) if self.writes else self._read(log)
        finally:
            log.close()
        began, ended = self.job.clock.words
        return Used(self.writes, *tell(log, began, ended), problem)

    def _is_over(self, now: int) -> bool:
        ended = self.job.clock.words[1]
        return bool(ended) and now - ended > self.job.rest_s * 1e9

    def _read(self, log: Log) -> str:
        get, clock, keys, labels = self.m.get, time.monotonic_ns, self.keys, self.labels
        begun, note, count, done, problem = log.begins.append, log.spans.append, len(keys), 0, ""
        while True:
            at = done % count
            begin = clock()
            got = get(keys[at])
            span = clock() - begin
            note(span)
            begun(begin)
            if span > LONG_NS:
                log.note_long(span)
            if type(got) is not bytes or got[:16] != labels[at]:
                problem = f"{keys[at]} gave {str(got)[:40]}"
            done += 1
            if done % LOOK_EVERY == 0:
                log.look()
                if self._is_over(begin):
                    return problem

    def _write(self, log: Log) -> str:
        put, clock, keys, labels = self.m.set, time.monotonic_ns, self.keys, self.labels
        begun, note, count, first = log.begins.append, log.spans.append, len(keys), self.turn
        turn = first
        while True:
            at = turn % count
            turn += 1
            value = written_value(labels[at], turn)
            begin = clock()
            put(keys[at], value)
            span = clock() - begin
            note(span)
            begun(begin)
            if span > LONG_NS:
                log.note_long(span)
            if turn % LOOK_EVERY == 0:
                log.look()
                if self._is_over(begin):
                    break
        self.turn = turn
        newest = {  # of a key that is in the plan twice, its last one
            keys[n % count]: written_value(labels[n % count], n + 1)
            for n in range(max(first, turn - count), turn)
        }
        for key, value in newest.items():
            if (got := self.m.get(key)) != value:
                return f"{key} is {str(got)[:40]} after {value[:40]!r} was written"
        return ""

    def close(self) -> None:
        """Detach."""
        self.m.close()


def tell(log: Log, began: int, ended: int) -> tuple[dict[str, Part], dict[int, int]]:
    """Tell the parts of a run, and its course: see `Used`."""
    import numpy as np

    first, took = np.frombuffer(log.begins, "q"), np.frombuffer(log.spans, "q")
    own, last = took.copy(), first + took
    for at, span in log.own:
        own[at] = span
    parts = {}
    for name, of, since, until in (
        (BEFORE, last <= began, int(first[0]), began),
        (DURING, (last > began) & (first < ended), began, ended),
        (AFTER, first >= ended, ended, int(last[-1])),
    ):
        parts[name] = Part(int(of.sum()), until - since, Histogram(took[of].tolist()),
                           int(own[of].max(initial=0)))
    course: dict[int, int] = {}
    slots = (first - began) // BUCKET_NS
    for each in np.unique(slots):
        course[int(each)] = int(took[slots == each].max())
    for one in np.flatnonzero(took > BUCKET_NS):  # it was under way in several
        for slot in range(int(slots[one]), int((last[one] - began) // BUCKET_NS) + 1):
            course[slot] = max(course.get(slot, 0), int(took[one]))
    return parts, course


class Run(NamedTuple):
    """One change of one repetition."""

    moved: Moved
    used: list[Used]

    def spans(self, writes: bool, part: str) -> Histogram:
        """Add up the times of all writers, or readers."""
        every = Histogram()
        for each in self.used:
            if each.writes == writes:
                every.add(each.parts[part].spans)
        return every

    def own_most(self, writes: bool, part: str) -> int:
        """Return the longest of all writers, or readers, less what it waited for a processor."""
        return max([each.parts[part].own_most for each in self.used if each.writes == writes])

    def rate(self, writes: bool, part: str) -> float:
        """Return the operations a second of all writers, or readers."""
        mine = [each.parts[part] for each in self.used if each.writes == writes]
        return sum([each.operations / max(1, each.ns) * 1e9 for each in mine])

    def course(self) -> dict[int, int]:
        """Return the longest write that was under way in each BUCKET_NS."""
        found: dict[int, int] = {}
        for each in self.used:
            if each.writes:
                for slot, span in each.course.items():
                    found[slot] = max(found.get(slot, 0), span)
        return found


class MovingMap:
    """A map, another one that nobody uses, and workers. In `changes` the last run of each."""

    def __init__(self, way: str, entries: int, users: int, seconds: float) -> None:
        self.way, self.entries, self.seconds = way, entries, seconds
        self.clock = Clock()
        self.orders = multiprocessing.get_context("spawn").RawArray("i", 1)
        self.runs: dict[str, list[Run]] = {}
        self.m, self.pool = filled(entries), None
        self.other = filled(entries if way == OTHER else 1)
        try:
            self.pool = WorkerPool(
                Use(self.m.name, self.other.name, entries, users, way, seconds, self.clock,
                    self.orders),
                1 + users,
            )
        except BaseException:
            self.close()
            raise

    def change(self, step: int) -> Run:
        """Change the shape once: the `step`-th of STEPS."""
        assert self.pool is not None
        self.orders[0] = step
        self.clock.reset()
        moved, *used = self.pool.run(self.seconds)
        run = Run(moved, used)
        self.runs.setdefault(STEPS[step].title, []).append(run)
        return run

    def problems(self) -> list[str]:
        """List what was answered wrongly."""
        return [each.problem for runs in self.runs.values() for run in runs for each in run.used
                if each.problem]

    def close(self) -> None:
        """End the workers and remove the maps."""
        if self.pool is not None:
            self.pool.close()
        import shmmap

        for m in (self.m, self.other):
            shmmap.unlink(m.name, missing_ok=True)  # whatever has the name by now
            m.close()


def filled(entries: int) -> Any:
    """Make a map of the shape that STEPS begin with, that holds every key."""
    import shmmap

    m = shmmap.ShmMap(
        unique_name(), **shape_of(STEPS[-1], entries), ephemeral=True, fresh=True,
        lock_timeout=PATIENCE_S,
    )
    m.set_many((key, written_value(key.encode(), 0)) for key in map(key_of, range(entries)))
    return m


def shm_bytes(name: str) -> int:
    """Count the bytes of /dev/shm that all objects of a map hold."""
    found = 0
    with os.scandir("/dev/shm") as entries:
        for entry in entries:
            if entry.name.startswith((f"shmmap.{name}", f"sem.shmmap.{name}")):
                try:
                    found += entry.stat(follow_symlinks=False).st_blocks * 512
                except FileNotFoundError:
                    continue
    return found
