"""What does a process pay before its first read: to import a client, to open a filled store?"""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from typing import Any, NamedTuple

from ..core.peer import Peer
from ..core.progress import Progress
from ..core.results import Row
from ..core.scenario import Plot, Scenario, Setup, take_turns
from ..core.timing import percentile
from ..core.workloads import Workload
from ..load.worker_pool import WorkerPool
from ..peers import Dict, ManagerDict
from ..peers.server import PREFIX
from .families import STARTING


class Import(NamedTuple):
    """A fresh interpreter imports what a peer needs, and ends; dict's imports nothing."""

    name: str = "import"
    title: str = "a fresh interpreter imports the client and ends; dict: it imports nothing"
    quick: bool = False
    family: str = STARTING
    plots: tuple[Plot, ...] = (Plot("", "start, import, end", "", "ms"),)

    def able(self, setup: Setup) -> list[type[Peer]]:
        """List dict, and the peers that need a module."""
        return [peer for peer in setup.peers if peer is Dict or modules(peer)]

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return setup.scale.repetitions * len(self.able(setup))

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Start an interpreter again and again for every peer."""
        with tempfile.TemporaryDirectory(prefix=PREFIX) as elsewhere:
            lanes = [ImportLane(self.name, peer, elsewhere) for peer in self.able(setup)]
            for lane in lanes:
                lane.start()  # its bytecode is written, its files are in memory
            rows = take_turns(lanes, setup.scale.repetitions, progress)
        empty = next((row for row in rows if row.peer == Dict.name and not row.problem), None)
        for row in rows:
            if empty is not None and row is not empty and not row.problem:
                pairs = zip(row.samples["ms"], empty.samples["ms"], strict=True)
                row.samples["net_ms"] = [round(raw - none, 3) for raw, none in pairs]
        return rows


def modules(peer: type[Peer]) -> tuple[str, ...]:
    """Return what a process imports to use the peer."""
    return peer.modules or ((peer.distribution,) if peer.distribution else ())


class ImportLane:
    """The interpreters of one peer."""

    def __init__(self, scenario: str, peer: type[Peer], elsewhere: str) -> None:
        self.scenario = scenario
        self.peer = peer
        self.elsewhere = elsewhere  # a checkout in the current directory would be found first
        self.problem = ""
        self.took_ms: list[float] = []
        self.command = [sys.executable, "-c", "pass"]
        self.wanted: list[str | None] = []
        if modules(peer):
            files = ", ".join(f"{module}.__file__" for module in modules(peer))
            self.command[-1] = f"import {', '.join(modules(peer))}\nprint({files}, sep='\\n')"
            found = [importlib.util.find_spec(module) for module in modules(peer)]
            self.wanted = [spec.origin if spec else None for spec in found]
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self.environment = {**os.environ, "PYTHONPATH": path}

    def start(self) -> float:
        """Run an interpreter to its end; verify what it imported; return milliseconds."""
        start = time.perf_counter_ns()
        done = subprocess.run(
            self.command, cwd=self.elsewhere, env=self.environment, capture_output=True, text=True
        )
        took = (time.perf_counter_ns() - start) / 1e6
        if not self.problem and (done.returncode or done.stdout.splitlines() != self.wanted):
            self.problem = f"imported {done.stdout.splitlines()}: {done.stderr.strip()[-120:]}"
        return took

    def repeat(self, number: int) -> None:
        """Run one interpreter."""
        self.took_ms.append(round(self.start(), 3))

    def row(self) -> Row:
        """Return what was found."""
        facts = {"imports": ", ".join(modules(self.peer))}
        return Row.of(
            self.scenario, self.peer.name, {"ms": self.took_ms}, self.problem, facts=facts
        )

    def close(self) -> None:
        """Nothing is left: each interpreter has ended."""


class Attach(NamedTuple):
    """Another process opens a filled store, reads one entry, and lets go."""

    name: str = "attach"
    title: str = "open a store of 100,000 entries that another process made; read one"
    quick: bool = False
    family: str = STARTING
    plots: tuple[Plot, ...] = (Plot("", "open a filled store, read one entry", "", "ns", "y"),)

    def able(self, setup: Setup) -> list[type[Peer]]:
        """List dict (an empty one: nothing to open), and the peers that can be shared.

        Not the manager's: a process is handed its proxy open, when it is spawned.
        """
        return [p for p in setup.peers if p is Dict or (p.shared and p is not ManagerDict)]

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return setup.scale.repetitions * len(self.able(setup))

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Have a worker for each peer that attaches again and again."""
        lanes = (
            AttachLane(self.name, peer, peer.fitting(setup.workload)) for peer in self.able(setup)
        )
        return take_turns(lanes, setup.scale.repetitions, progress)


class AttachLane:
    """One peer's store, and the worker that opens it."""

    def __init__(self, scenario: str, kind: type[Peer], workload: Workload) -> None:
        self.scenario = scenario
        self.kind = kind
        self.seconds = workload.scale.seconds / 4
        self.facts = {"entries": workload.scale.keys if kind.shared else 1}
        self.problem = ""
        self.repetitions: list[list[int]] = []
        self.peer: Peer | None = None
        self.pool: WorkerPool | None = None
        try:
            key = workload.hot[0]
            address = None
            if kind.shared:
                self.peer = kind(len(workload.keys))
                self.peer.fill(workload.values)
                address = self.peer.address
            self.pool = WorkerPool(AttachJob(kind, address, key, workload.values[key]), 1)
        except Exception as error:
            self.problem = f"opening: {type(error).__name__}: {str(error)[:120]}"
        except BaseException:
            self.close()
            raise

    def repeat(self, number: int) -> None:
        """Have the worker attach for a while."""
        if self.pool is not None and not self.problem:
            took, self.problem = self.pool.run(self.seconds)[0]
            self.repetitions.append(took)

    def row(self) -> Row:
        """Return what was found."""
        samples = {
            "ns": [statistics.median(took) for took in self.repetitions],
            "p99_ns": [percentile(took, 0.99) for took in self.repetitions],
        }
        return Row.of(self.scenario, self.kind.name, samples, self.problem, facts=self.facts)

    def close(self) -> None:
        """End the worker, remove the store."""
        with ExitStack() as stack:
            if self.peer is not None:
                stack.callback(self.peer.close)
            if self.pool is not None:
                stack.callback(self.pool.close)


class AttachJob(NamedTuple):
    """What the worker is told."""

    kind: type[Peer]
    address: Any
    key: str
    value: bytes

    def begin(self, index: int) -> AttachWork:
        """Attach once, so that nothing is left to import."""
        work = AttachWork(self)
        work.once()
        return work


class AttachWork:
    """Attaches, reads one entry, lets go."""

    def __init__(self, job: AttachJob) -> None:
        self.job = job
        self.problem = ""
        self.reading = compile(job.kind.statements["get"], "<bench attach>", "exec")

    def run(self, until_ns: int) -> tuple[list[int], str]:
        """Attach until the time is over, and at least once; return what each took."""
        took = [self.once()]
        while time.monotonic_ns() < until_ns:
            took.append(self.once())
        return took, self.problem

    def once(self) -> int:
        """Attach and read; letting go is not timed."""
        kind, address, key, value = self.job
        start = time.perf_counter_ns()
        if address is None:
            peer = kind(1)
            peer.fill({key: value})
        else:
            peer = kind.attach(address)
        space = {**peer.names(), "key": peer.native_keys([key])[0]}
        exec(self.reading, space)  # text of this package only
        took = time.perf_counter_ns() - start
        peer.close()
        if space["value"] != value:
            self.problem = self.problem or f"{key} was {str(space['value'])[:40]!r}"
        return took

    def close(self) -> None:
        """Nothing is open between two turns."""


SCENARIOS: tuple[Scenario, ...] = (Import(), Attach())
