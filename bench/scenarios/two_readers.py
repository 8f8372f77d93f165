"""What does a second process add where both only read?"""

from __future__ import annotations

import statistics
import time
from typing import Any, NamedTuple

from ..core.machine import own_cores
from ..core.peer import Peer
from ..core.progress import Progress
from ..core.results import Row
from ..core.scenario import Lane, Plot, Scenario, Setup, take_turns
from ..core.timing import timed_loop
from ..core.workloads import Scale, Workload
from ..load.worker_pool import Work, WorkerPool
from ..peers import Dict, Lmdb, ShmMapPeer
from .families import SEVERAL_PROCESSES

# dict is the control: every process has its own, so it shows what the two cores can give.
READ: tuple[type[Peer], ...] = (Dict, ShmMapPeer, Lmdb)


class Readers(NamedTuple):
    """One process reads alone, then two at once, each pinned to a core."""

    name: str
    title: str
    keyset: str
    plots: tuple[Plot, ...]
    quick: bool = False
    family: str = SEVERAL_PROCESSES

    def steps(self, setup: Setup) -> int:
        """Count the progress steps: none on a machine with one core."""
        if len(own_cores()) < 2:
            return 0
        return setup.scale.reader_repetitions * len([p for p in READ if p in setup.peers])

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Measure every peer; return a row for each, none on a machine with one core."""
        cores = own_cores()[:2]
        if len(cores) < 2:
            return []
        kinds = [kind for kind in READ if kind in setup.peers]
        lanes = (ReaderLane(self, kind, setup.workload, cores) for kind in kinds)
        return take_turns(lanes, setup.scale.reader_repetitions, progress)


class ReaderLane(Lane):
    """One store and its two readers."""

    def __init__(
        self, scenario: Readers, kind: type[Peer], workload: Workload, cores: list[int]
    ) -> None:
        self.scenario = scenario
        self.kind = kind
        self.seconds = workload.scale.load_seconds
        self.problem = ""
        self.alone: list[float] = []
        self.both: list[float] = []
        self.store: Peer | None = None
        if kind.shared:
            self.store = kind(len(workload.keys))
        try:
            if self.store is not None:
                self.store.fill(workload.values)
            address = self.store and self.store.address
            job = ReaderJob(kind, address, scenario.keyset, workload.scale)
            self.pool = WorkerPool(job, 2, cores)
        except BaseException:
            self._remove()
            raise

    def repeat(self, number: int) -> None:
        """Let one read alone, then both; who is alone takes turns."""
        self.alone.append(self._throughput([number % 2]))
        self.both.append(self._throughput([0, 1]))

    def _throughput(self, who: list[int]) -> float:
        found = self.pool.run(self.seconds, who)
        self.problem = self.problem or next((each[3] for each in found if each[3]), "")
        window = max(end for _, _, end, _ in found) - min(begun for _, begun, _, _ in found)
        return float(sum(count for count, _, _, _ in found) / window * 1e9)

    def close(self) -> None:
        """End both readers and remove the store."""
        self.pool.close()
        self._remove()

    def _remove(self) -> None:
        if self.store is not None:
            self.store.close()

    def row(self) -> Row:
        """Return what was found, with every repetition."""
        return Row.of(
            self.scenario.name, self.kind.name,
            {
                "gain": [two / one for one, two in zip(self.alone, self.both, strict=True)],
                "per_s": [round(two) for two in self.both],
            },
            self.problem, facts={"one_per_s": round(statistics.median(self.alone))},
        )


class ReaderJob(NamedTuple):
    """How a reader gets ready. Without an address it makes a store of its own."""

    kind: type[Peer]
    address: Any
    keyset: str
    scale: Scale

    def begin(self, index: int) -> Work:
        """Open the store; read everything once."""
        return Reader(self)


class Reader:
    """A worker that reads batch after batch, and looks at the last answer of each."""

    def __init__(self, job: ReaderJob) -> None:
        workload = Workload(job.scale)
        if job.kind.shared:
            self.peer = job.kind.attach(job.address)
        else:
            self.peer = job.kind(len(workload.keys))
            self.peer.fill(workload.values)
        batches = workload.split(job.keyset)
        self.native = [self.peer.native_keys(keys) for keys in batches]
        self.last = [workload.values[keys[-1]] for keys in batches]
        self.timed = timed_loop(job.kind.statements["get"], self.peer.names())
        for keys in self.native:
            self.timed(keys, None)

    def run(self, until_ns: int) -> tuple[int, int, int, str]:
        """Read until then, one batch at least: (operations, start, end, what was wrong)."""
        problem, count, index = "", 0, 0
        begun = now = time.monotonic_ns()
        while not count or now < until_ns:
            _, value = self.timed(self.native[index], None)
            if value != self.last[index]:
                problem = f"batch {index} ended with {value!r:.40}"
            count += len(self.native[index])
            index = (index + 1) % len(self.native)
            now = time.monotonic_ns()
        return count, begun, now, problem

    def close(self) -> None:
        """Let the store go."""
        self.peer.close()


def _gain(title: str) -> tuple[Plot, ...]:
    return (Plot("", f"{title}: throughput of two to that of one", "", "gain"),)


SCENARIOS: tuple[Scenario, ...] = (
    Readers("readers-hot", "two processes read 64 hot keys", "hot",
            _gain("Two processes read 64 hot keys"), quick=True),
    Readers("readers-shuffled", "two processes read 100,000 keys, shuffled", "shuffled",
            _gain("Two processes read all keys, shuffled")),
)
