"""Scenarios in which two processes read: what the second one adds."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from contextlib import ExitStack
from typing import Any, NamedTuple

from .peers import Dict, Lmdb, Peer, ShmMapPeer
from .progress import Progress
from .timing import collector_off, timed_loop
from .workloads import Scale, Workload

PATIENCE_S = 60.0  # no command takes a reader longer, on a busy machine either
# dict is the control: every process has its own, so it shows what the two cores can give.
READ: tuple[type[Peer], ...] = (Dict, ShmMapPeer, Lmdb)


class ReaderError(Exception):
    """A reader process failed, or gave no answer: its message says which and what."""


class Readers(NamedTuple):
    """One process reads alone, then two at once, each pinned to a core."""

    name: str
    title: str
    keyset: str

    def steps(self, workload: Workload, peers: list[type[Peer]]) -> int:
        """Count the progress steps."""
        if len(os.sched_getaffinity(0)) < 2:
            return 0
        return workload.scale.reader_repetitions * len([p for p in READ if p in peers])

    def run(
        self, workload: Workload, peers: list[type[Peer]], progress: Progress
    ) -> list[dict[str, Any]]:
        """Measure every peer; gives a row for each, none on a machine with one core."""
        cores = sorted(os.sched_getaffinity(0))[:2]
        chosen = [peer for peer in READ if peer in peers]
        if len(cores) < 2:
            return []
        with ExitStack() as stack:
            pairs = []
            for kind in chosen:
                pair = ReaderPair(kind, self.keyset, workload, cores)
                stack.callback(pair.close)
                pair.start()
                pairs.append(pair)
            for number in range(workload.scale.reader_repetitions):
                for pair in pairs if number % 2 == 0 else reversed(pairs):
                    pair.repeat(number)
                    progress.step()
        return [pair.row(self.name) for pair in pairs]


class ReaderPair:
    """Two reader processes of one peer, which wait for commands between repetitions."""

    def __init__(
        self, kind: type[Peer], keyset: str, workload: Workload, cores: list[int]
    ) -> None:
        self.kind = kind
        self.scale = workload.scale
        self.problem = ""
        self.rates: list[tuple[float, float]] = []
        self.store: Peer | None = None
        self.workload = workload
        context = multiprocessing.get_context("spawn")
        self.barrier = context.Barrier(2)  # kept: it is gone for the readers once it is collected
        self.pipes, self.processes = [], []
        for core in cores:
            mine, theirs = context.Pipe()
            self.pipes.append(mine)
            self.processes.append(context.Process(
                target=_read, daemon=True,
                args=(theirs, self.barrier, kind, keyset, self.scale, core),
            ))

    def start(self) -> None:
        """Fill the store, start both readers, wait until they are ready."""
        address = None
        if self.kind.shared:
            self.store = self.kind(len(self.workload.keys))
            self.store.fill(self.workload.values)
            address = self.store.address
        for process, pipe in zip(self.processes, self.pipes, strict=True):
            process.start()
            pipe.send(address)
        engines = {self._answer(index) for index in range(2)}
        if engines != {_engine()}:
            raise ReaderError(f"readers run {engines}, this process runs {_engine()}")

    def repeat(self, number: int) -> None:
        """Let one read alone, then both; who is alone takes turns."""
        alone = self._throughput([number % 2])
        both = self._throughput([0, 1])
        self.rates.append((alone, both))

    def _throughput(self, who: list[int]) -> float:
        for index in who:
            try:
                self.pipes[index].send(len(who))
            except BrokenPipeError:
                raise self._died(index) from None
        found = [self._answer(index) for index in who]
        for _, _, _, problem in found:
            self.problem = self.problem or problem
        window_ns = max(end for _, _, end, _ in found) - min(start for _, start, _, _ in found)
        return float(sum(count for count, _, _, _ in found) / window_ns * 1e9)

    def _answer(self, index: int) -> Any:
        if not self.pipes[index].poll(PATIENCE_S):
            raise ReaderError(f"reader {index} of {self.kind.name}: no answer in {PATIENCE_S} s")
        try:
            return self.pipes[index].recv()
        except (EOFError, ConnectionError):
            raise self._died(index) from None

    def _died(self, index: int) -> ReaderError:
        return ReaderError(f"reader {index} of {self.kind.name} died; see stderr")

    def close(self) -> None:
        """End both readers and remove the store."""
        for process, pipe in zip(self.processes, self.pipes, strict=True):
            pipe.close()  # a reader that waits for a command reads the end and leaves
            if process.pid is not None:
                process.join(5.0)
                if process.is_alive():
                    process.kill()
                    process.join()
        if self.store is not None:
            self.store.close()

    def row(self, scenario: str) -> dict[str, Any]:
        """Give what was found, with every repetition."""
        return {
            "scenario": scenario,
            "peer": self.kind.name,
            "one_per_s": statistics.median(one for one, _ in self.rates),
            "two_per_s": statistics.median(two for _, two in self.rates),
            "gain": statistics.median(two / one for one, two in self.rates),
            "gain_least": min(two / one for one, two in self.rates),
            "gain_most": max(two / one for one, two in self.rates),
            "problem": self.problem,
            "repetitions_per_s": [[round(one), round(two)] for one, two in self.rates],
        }


def _engine() -> str:
    import shmmap

    return f"{shmmap.ENGINE} from {shmmap.__file__}"


def _read(
    pipe: Any, barrier: Any, kind: type[Peer], keyset: str, scale: Scale, core: int
) -> None:
    """Run in a reader process: get ready, then read for a while at each command."""
    os.sched_setaffinity(0, {core})
    workload = Workload(scale)
    address = pipe.recv()
    if kind.shared:
        peer = kind.attach(address)
    else:
        peer = kind(len(workload.keys))
        peer.fill(workload.values)
    batches = workload.split(keyset)
    native = [peer.native_keys(keys) for keys in batches]
    last = [workload.values[keys[-1]] for keys in batches]
    timed = timed_loop(peer.statements["get"], peer.names())
    for keys in native:
        timed(keys, None)
    pipe.send(_engine())
    try:
        while True:
            readers = pipe.recv()
            with collector_off():
                if readers > 1:
                    barrier.wait(PATIENCE_S)
                answer = _read_for(int(scale.seconds * 1e9), timed, native, last)
            pipe.send(answer)
    except EOFError:
        peer.close()


def _read_for(
    duration_ns: int, timed: Any, native: list[list[Any]], last: list[bytes]
) -> tuple[int, int, int, str]:
    """Read until the time is over: (operations, start, end, what was wrong)."""
    problem, count, index = "", 0, 0
    start = now = time.monotonic_ns()
    while now - start < duration_ns:
        _, value = timed(native[index], None)
        if value != last[index]:
            problem = f"batch {index} ended with {str(value)[:40]!r}"
        count += len(native[index])
        index = (index + 1) % len(native)
        now = time.monotonic_ns()
    return count, start, now, problem


def metrics(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Name the gains: "readers-hot/shmmap gain"."""
    return {f"{r['scenario']}/{r['peer']} gain": r["gain"] for r in rows if not r["problem"]}


SCENARIOS = (
    Readers("readers-hot", "two processes read 64 hot keys", "hot"),
    Readers("readers-shuffled", "two processes read 100,000 keys, shuffled", "shuffled"),
)
