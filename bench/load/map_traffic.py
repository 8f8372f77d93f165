"""Workers that read and write stores in a given mix; every write is known, so none may get lost."""

from __future__ import annotations

import multiprocessing
import random
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from ..core.results import Row
from ..core.timing import percentile
from ..core.workloads import KEY_BYTES, SEED, key_of, value_of
from .worker_pool import WorkerPool

PLAN = 8_192  # operations until the same keys are used again, with other values
CHUNK = 8  # of so many operations one is timed on its own, and verified if it is a read


class Store(NamedTuple):
    """A store as a worker has opened it.

    Attributes:
        get, put: read a key, write one.
        words, at: words[at] counts the lock acquisitions of this worker that had to wait.
        close: lets it go.
    """

    get: Callable[[str], Any]
    put: Callable[[str, bytes], Any]
    words: Sequence[int]
    at: int
    close: Callable[[], Any]


class Opener(Protocol):
    """How a worker opens a store. Pickled."""

    def open(self) -> Store:
        """Open it."""


class MapOpener(NamedTuple):
    """Opens a map."""

    name: str

    def open(self) -> Store:
        """Attach."""
        import shmmap
        from shmmap.memory.layout import constants

        m = shmmap.ShmMap.attach(self.name)
        worker = m.attachment.worker
        at = (worker.row_offset(worker.row) + constants()["R_WAITS"]) >> 3
        return Store(m.get, m.set, m.attachment.control.words, at, m.close)


class Dial:
    """Tells the workers which store they use next, and at which write share."""

    def __init__(self) -> None:
        self.numbers = multiprocessing.get_context("spawn").RawArray("i", 2)

    def turn(self, store: int, share: int) -> None:
        """Choose, before the pool's next run."""
        self.numbers[:] = (store, share)


class Users(NamedTuple):
    """A pool's job: read all keys of the store that the dial tells, write one's own.

    Attributes:
        openers: the stores.
        entries: keys of each store.
        shares: write shares, in percent.
        workers: how many there are; worker n writes every workers-th key from the n-th on.
        dial: see there.
    """

    openers: tuple[Opener, ...]
    entries: int
    shares: tuple[float, ...]
    workers: int
    dial: Dial

    def begin(self, index: int) -> User:
        """Open every store and read every key of it."""
        return User(self, index)


class Stretch(NamedTuple):
    """What a worker did in one timed stretch.

    Attributes:
        operations, writes: how many.
        began, ended: when, on the clock of all processes.
        times: nanoseconds of the operations that were timed.
        waited: the same of those that waited for a lock.
        waits: acquisitions that waited, timed or not.
        problem: what was answered wrongly.
    """

    operations: int
    writes: int
    began: int
    ended: int
    times: array[int]
    waited: array[int]
    waits: int
    problem: str


class Chunk(NamedTuple):
    """Some operations: (key, None) reads, (key, value) writes."""

    first: tuple[str, bytes | None]
    label: bytes  # what the value of the first one's key starts with
    rest: list[tuple[str, bytes | None]]
    writes: int


class User:
    """A worker that uses stores."""

    def __init__(self, job: Users, index: int) -> None:
        self.job = job
        self.stores: list[Store] = []
        self.plans = [plan(job, index, share) for share in job.shares]
        self.at = 0
        for opener in job.openers:
            store = opener.open()
            self.stores.append(store)
            for key in map(key_of, range(job.entries)):
                if store.get(key) != value_of(key):
                    raise ValueError(f"{key} was not filled in")

    def run(self, until_ns: int) -> Stretch:
        """Do what the dial says until it is time, then read back all that was written."""
        number, share = self.job.dial.numbers
        store, chunks = self.stores[number], self.plans[share]
        self.at %= len(chunks)
        first = self.at
        before = store.words[store.at]
        began = time.monotonic_ns()
        done, times, waited, problem = self._work(store, chunks, until_ns)
        ended = time.monotonic_ns()
        recent = [chunks[(first + n) % len(chunks)]
                  for n in range(max(0, done - len(chunks)), done)]
        return Stretch(
            done * CHUNK,
            sum(chunks[(first + n) % len(chunks)].writes for n in range(done)),
            began, ended, times, waited, store.words[store.at] - before,
            problem or unlike(store, recent),
        )

    def _work(
        self, store: Store, chunks: list[Chunk], until_ns: int
    ) -> tuple[int, array[int], array[int], str]:
        get, put, words, row, _ = store
        clock = time.monotonic_ns
        times, waited, problem, at, done = array("q"), array("q"), "", self.at, 0
        while True:  # at least once: a worker that starts late has something to tell as well
            (key, value), label, rest, _ = chunks[at]
            waits = words[row]
            begin = clock()
            got = get(key) if value is None else put(key, value)
            took = clock() - begin
            times.append(took)
            if words[row] != waits:
                waited.append(took)
            if value is None and (type(got) is not bytes or got[:KEY_BYTES] != label):
                problem = f"{key} gave {str(got)[:40]}"
            for key, value in rest:
                if value is None:
                    get(key)
                else:
                    put(key, value)
            done += 1
            at += 1
            if at == len(chunks):
                at = 0
            if clock() >= until_ns:
                break
        self.at = at
        return done, times, waited, problem

    def close(self) -> None:
        """Close every store."""
        for store in self.stores:
            store.close()


def plan(job: Users, index: int, share: float) -> list[Chunk]:
    """Plan a worker's operations: exactly this share of writes, twice over with other values."""
    rng = random.Random(f"{SEED} {index} {share}")
    mine = [key_of(n) for n in range(index, job.entries, job.workers)]
    writes = [n < round(PLAN * share / 100) for n in range(PLAN)]
    rng.shuffle(writes)
    keys = [rng.choice(mine) if each else key_of(rng.randrange(job.entries)) for each in writes]
    operations = [
        (key, value_of(f"{key} {n} ") if each else None)  # no two writes are alike
        for n, (key, each) in enumerate(zip(keys * 2, writes * 2, strict=True))
    ]
    return [
        Chunk(part[0], part[0][0].encode(), part[1:], sum(value is not None for _, value in part))
        for part in (operations[n : n + CHUNK] for n in range(0, len(operations), CHUNK))
    ]


def unlike(store: Store, chunks: list[Chunk]) -> str:
    """Say which key has another value than its last write gave it; "": none."""
    last = {
        key: value
        for chunk in chunks
        for key, value in (chunk.first, *chunk.rest)
        if value is not None
    }
    for key, value in last.items():
        if (got := store.get(key)) != value:
            return f"{key} is {str(got)[:40]} after {str(value)[:40]} was written"
    return ""


def rate(turn: Sequence[Stretch]) -> float:
    """Return the operations a second of all workers, from the first start to the last end."""
    window_ns = max(each.ended for each in turn) - min(each.began for each in turn)
    return round(sum(each.operations for each in turn) / window_ns * 1e9)


class TrafficLane:
    """A design or setting under one mix, on a pool that others use in turns with it.

    Attributes:
        who: how many of the workers take part.
        turn: what the dial is told.
    """

    def __init__(
        self, scenario: str, peer: str, point: dict[str, Any], pool: WorkerPool, dial: Dial,
        turn: tuple[int, int], who: int, seconds: float,
    ) -> None:
        self.scenario, self.peer, self.point = scenario, peer, point
        self.pool, self.dial, self.turn = pool, dial, turn
        self.who, self.seconds = who, seconds
        self.repetitions: list[list[Stretch]] = []

    def repeat(self, number: int) -> None:
        """Have the workers work once."""
        self.dial.turn(*self.turn)
        self.repetitions.append(self.pool.run(self.seconds, range(self.who)))

    def samples(self) -> dict[str, list[float]]:
        """Return throughput and latencies, a number for each repetition."""
        times = [[ns for each in turn for ns in each.times] for turn in self.repetitions]
        return {
            "per_s": [rate(turn) for turn in self.repetitions],
            "p50_ns": [percentile(every, 0.5) for every in times],
            "p99_ns": [percentile(every, 0.99) for every in times],
            "fairness": [
                min(each.operations for each in turn) / max(each.operations for each in turn)
                for turn in self.repetitions
            ],
        }

    def facts(self) -> dict[str, Any]:
        """Return what else is to be told."""
        return {"processes": self.who}

    def row(self) -> Row:
        """Return what was found."""
        wrong = [s.problem for turn in self.repetitions for s in turn if s.problem]
        return Row.of(
            self.scenario, self.peer, self.samples(), "; ".join(wrong[:1]), self.point,
            self.facts(),
        )

    def close(self) -> None:
        """Leave the pool to the scenario, whose it is."""
