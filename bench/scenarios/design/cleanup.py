"""What does it take to sweep expired entries, by their share of the map?"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from ...core.peer import unique_name
from ...core.progress import Progress
from ...core.results import OURS, Row
from ...core.scenario import Plot, Scenario, Setup, take_turns
from ...core.timing import collector_off, percentile
from ...core.workloads import SEED, key_of, value_of
from ...peers.own_map import affordable, freeze, remove
from ..families import THE_MAP_ITSELF

SHARES = (0.1, 1.0, 10.0, 50.0)  # percent of the entries that expire
LONG_S, SHORT_S = 1e6, 1.0
SECOND_NS = 10**9


@contextmanager
def each_hold_timed() -> Iterator[list[int]]:
    """Time each hold of a lock that the sweeper takes, the wait included, in nanoseconds."""
    from shmmap.lifecycle import sweeper

    holds: list[int] = []
    sweep_part = sweeper.sweep_part

    def timed(*arguments: Any) -> int:
        begin = time.perf_counter_ns()
        following: int = sweep_part(*arguments)
        holds.append(time.perf_counter_ns() - begin)
        return following

    sweeper.sweep_part = timed
    try:
        yield holds
    finally:
        sweeper.sweep_part = sweep_part


class Cleanup(NamedTuple):
    """A map of which some entries expire at once, all others much later."""

    name: str
    title: str
    plots: tuple[Plot, ...]
    family: str = THE_MAP_ITSELF
    quick: bool = False

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return 1 + len(SHARES) * setup.scale.experiment_repetitions

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Fill one map; expire every share of it again and again."""
        import shmmap

        scale = setup.scale
        entries = affordable(scale.cleanup_entries)
        keys = [key_of(n) for n in range(entries)]
        value = value_of("cleanup ")
        with ExitStack() as stack:
            m = shmmap.ShmMap.create(
                unique_name(), capacity=entries, ephemeral=True, sweep_interval=None
            )
            stack.callback(remove, m)
            freeze(m)
            m.set_many(((key, value) for key in keys), ttl=LONG_S)
            progress.step()
            lanes = [CleanupLane(self.name, m, keys, value, share) for share in SHARES]
            return take_turns(lanes, scale.experiment_repetitions, progress)


class CleanupLane:
    """One share of the entries, at random places, expires and is swept; then they come back."""

    def __init__(
        self, scenario: str, m: Any, keys: list[str], value: bytes, share: float
    ) -> None:
        self.scenario, self.m, self.keys, self.value, self.share = scenario, m, keys, value, share
        self.sweeps: list[tuple[float, list[int], int]] = []
        self.problem = ""

    def repeat(self, number: int) -> None:
        """Expire, sweep, verify, write again."""
        m, clock = self.m, self.m.attachment.clock
        count = max(1, round(len(self.keys) * self.share / 100))
        chosen = random.Random(SEED + number).sample(self.keys, count)
        for key in chosen:
            m.touch(key, SHORT_S)
        clock.frozen_ns += 2 * SECOND_NS
        with collector_off(), each_hold_timed() as holds:
            begin = time.perf_counter_ns()
            report = m.attachment.sweeper.sweep(m)
            took = time.perf_counter_ns() - begin
        self.sweeps.append((took, holds, count))
        if report.expired != count or m.stats().free_slots < count or report.busy_shards:
            self.wrong(f"{report.expired:,} of {count:,} expired entries were removed")
        gone = set(chosen)
        if any((m.get(key) == self.value) == (key in gone) for key in self.keys[:1000]):
            self.wrong("the sweep removed entries that it must not, or kept others")
        m.set_many(((key, self.value) for key in chosen), ttl=LONG_S)
        if len(m) != len(self.keys):
            self.wrong(f"{len(m):,} of {len(self.keys):,} entries after the sweep")

    def wrong(self, what: str) -> None:
        """Keep the first thing that was wrong."""
        self.problem = self.problem or what

    def row(self) -> Row:
        """Return what was found."""
        return Row.of(
            self.scenario, OURS,
            {
                "ms": [ns / 1e6 for ns, _, _ in self.sweeps],
                "ns": [ns / count for ns, _, count in self.sweeps],
                "p50_ns": [percentile(holds, 0.5) for _, holds, _ in self.sweeps],
                "p99_ns": [percentile(holds, 0.99) for _, holds, _ in self.sweeps],
                "most_ns": [float(max(holds)) for _, holds, _ in self.sweeps],
            },
            self.problem, {"expired": self.share},
            {"entries": len(self.keys), "holds": len(self.sweeps[-1][1]),
             "shards": len(self.m.attachment.shards)},
        )

    def close(self) -> None:
        """Leave the map to the scenario, whose it is."""


CLEANUP = Cleanup(
    "cleanup", "sweep of a map of which 0.1 to 50 % have expired",
    (
        Plot("", "A whole sweep", "expired", "ms", "xy"),
        Plot("hold", "99 of 100 holds of a lock", "expired", "p99_ns", "x"),
        Plot("entry", "Time of the sweep for an expired entry", "expired", "ns", "xy"),
    ),
)
SCENARIOS: tuple[Scenario, ...] = (CLEANUP,)
