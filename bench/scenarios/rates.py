"""What does it cost to count a hit of a rate limit, and does the limit hold for all processes?

One `hit` of a `RateLimiter` (three algorithms) beside the library limits over redis and memcached,
both on unix sockets, over memory, and over our storage for it. `rates`: one process, a thousand
clients in turn, none of which is refused; each hit is timed, the reading of the clock included.
`rates-processes`: four processes do the same for a while; then all four hit one key, each of them
twice as often as the limit allows. A limit that is shared lets through as many as it says in all,
one of `memory://` as many in each process. The windows are a day's, so that none ends meanwhile.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import cycle
from typing import NamedTuple

from ..core.progress import Progress
from ..core.results import OURS, Row
from ..core.scenario import Lane, Plot, Scenario, Setup, take_turns
from ..core.timing import collector_off, percentile
from ..load.rate_limits import (
    ALGORITHMS,
    CLIENTS,
    EACH,
    ENDLESS,
    EXACT,
    KINDS,
    LIMIT,
    SERVED,
    STRATEGIES,
    Hits,
    RateJob,
    make_store,
    opened,
)
from ..load.worker_pool import WorkerPool
from .families import RATES

PROCESSES = 4


class Rates(NamedTuple):
    """All limiters of one algorithm take turns, then those of the next.

    Attributes:
        processes: that hit at once; 1: this one, and each hit is timed.
    """

    name: str
    title: str
    processes: int
    plots: tuple[Plot, ...]
    quick: bool = False
    family: str = RATES

    def able(self, setup: Setup, algorithm: str) -> list[str]:
        """List the limiters that have this algorithm and can be had."""
        if algorithm not in STRATEGIES or find_spec("limits") is None:
            return [OURS]
        there = {peer.name for peer in setup.peers}
        return [kind for kind in KINDS if kind not in SERVED or SERVED[kind].name in there]

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        lanes = sum(len(self.able(setup, algorithm)) for algorithm in ALGORITHMS)
        return lanes * setup.scale.experiment_repetitions

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Measure every limiter."""
        scale, rows = setup.scale, []
        for algorithm in ALGORITHMS:
            lanes = (
                self.lane(kind, algorithm, scale.experiment_seconds)
                for kind in self.able(setup, algorithm)
            )
            rows += take_turns(lanes, scale.experiment_repetitions, progress)
        return rows

    def lane(self, kind: str, algorithm: str, seconds: float) -> Lane:
        """Make a limiter's lane."""
        if self.processes == 1:
            return HitLane(self.name, kind, algorithm, seconds)
        return CrowdLane(self.name, kind, algorithm, seconds, self.processes)


class HitLane:
    """One limiter in this process."""

    def __init__(self, scenario: str, kind: str, algorithm: str, seconds: float) -> None:
        self.scenario, self.kind, self.algorithm = scenario, kind, algorithm
        self.seconds = seconds
        self.samples: dict[str, list[float]] = {"ns": [], "p99_ns": []}
        self.hits = self.refused = 0
        self.stack = ExitStack()
        try:
            address = make_store(kind, self.stack)
            self.hit = opened(kind, address, self.stack)(algorithm, ENDLESS)
            for client in CLIENTS:
                self.hit(client)
        except BaseException:
            self.close()
            raise

    def repeat(self, number: int) -> None:
        """Hit for a while."""
        hit, now, spans = self.hit, time.perf_counter_ns, []
        with collector_off():
            until = now() + int(self.seconds * 1e9)
            for client in cycle(CLIENTS):
                begun = now()
                answer = hit(client)
                ended = now()
                spans.append(ended - begun)
                if not answer:
                    self.refused += 1
                if ended >= until:
                    break
        self.hits += len(spans)
        self.samples["ns"].append(percentile(spans, 0.5))
        self.samples["p99_ns"].append(percentile(spans, 0.99))

    def row(self) -> Row:
        """Return what was found."""
        problem = f"{self.refused} of {self.hits} hits were refused" if self.refused else ""
        return Row.of(
            self.scenario, self.kind, self.samples, problem, {"algorithm": self.algorithm},
            {"clients": len(CLIENTS), "hits": self.hits},
        )

    def close(self) -> None:
        """Remove the store."""
        self.stack.close()


class CrowdLane:
    """One limiter, and processes that hit it at once."""

    def __init__(
        self, scenario: str, kind: str, algorithm: str, seconds: float, processes: int
    ) -> None:
        self.scenario, self.kind, self.algorithm = scenario, kind, algorithm
        self.seconds, self.processes = seconds, processes
        self.samples: dict[str, list[float]] = {"per_s": [], "let_through": []}
        self.problem = ""
        self.stack = ExitStack()
        try:
            job = RateJob(kind, algorithm, make_store(kind, self.stack))
            self.pool = WorkerPool(job, processes)
            self.stack.callback(self.pool.close)
        except BaseException:
            self.close()
            raise

    def repeat(self, number: int) -> None:
        """Hit many keys for a while, then one key with a limit."""
        self.note(self.pool.run(self.seconds), self.pool.run(0.0))

    def note(self, many: list[Hits], one: list[Hits]) -> None:
        """Note the figures, and what is wrong in them."""
        hits = sum(each.hits for each in many)
        window = max(each.ended for each in many) - min(each.begun for each in many)
        passed = sum(each.passed for each in one)
        self.samples["per_s"].append(round(hits / window * 1e9))
        self.samples["let_through"].append(passed)
        if refused := hits - sum(each.passed for each in many):
            self.problem = f"{refused} of {hits} hits were refused"
        if self.kind in EXACT and passed != LIMIT:
            self.problem = f"{passed} hits were let through, where the limit is {LIMIT}"

    def row(self) -> Row:
        """Return what was found."""
        facts = {
            "processes": self.processes, "limit": LIMIT, "hits_of_one_key": EACH * self.processes,
        }
        return Row.of(
            self.scenario, self.kind, self.samples, self.problem, {"algorithm": self.algorithm},
            facts,
        )

    def close(self) -> None:
        """End the processes and remove the store."""
        self.stack.close()


SCENARIOS: tuple[Scenario, ...] = (
    Rates("rates", "one hit of a rate limit, one process", 1,
          (Plot("", "One hit of a rate limit", "algorithm", "ns", "y"),)),
    Rates("rates-processes",
          f"{PROCESSES} processes hit: hits a second, and what a limit of {LIMIT:,} lets through",
          PROCESSES,
          (Plot("", f"{PROCESSES} processes hit: hits a second", "algorithm", "per_s", "y"),)),
)
