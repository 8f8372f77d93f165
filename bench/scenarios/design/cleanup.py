"""What sweeping expired entries takes, and whether an hour of coming and going leaves anything."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from ...core.progress import Progress
from ...core.results import OURS, Row
from ...core.scenario import EXPERIMENTS, Plot, take_turns
from ...core.timing import collector_off, percentile
from ...core.workloads import SEED, key_of, value_of
from ...load.map_traffic import affordable, remove
from ...peers import unique_name

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


def freeze(m: Any) -> Any:
    """Stop the clock of a map that no other process uses; its `frozen_ns` is the time."""
    clock = m.attachment.clock
    clock.frozen_ns = clock.now_ns()
    return clock


class Cleanup(NamedTuple):
    """A map of which some entries expire at once, all others much later."""

    name: str
    title: str
    plots: tuple[Plot, ...]
    family: str = EXPERIMENTS
    quick: bool = False

    def steps(self, setup: Any) -> int:
        """Count the progress steps."""
        return 1 + len(SHARES) * int(setup.workload.scale.experiment_repetitions)

    def run(self, setup: Any, progress: Progress) -> list[Row]:
        """Fill one map; expire every share of it again and again."""
        import shmmap

        scale = setup.workload.scale
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


class Churn(NamedTuple):
    """An hour of a simulated clock: every second new keys with a ttl of a minute, of one to three
    slots, some of them overwritten or deleted, and a sweep whenever one is due."""

    name: str
    title: str
    plots: tuple[Plot, ...]
    minutes: int = 60
    every: int = 5
    quick: bool = False
    family: str = EXPERIMENTS

    def steps(self, setup: Any) -> int:
        """Count the progress steps."""
        return self.minutes

    def run(self, setup: Any, progress: Progress) -> list[Row]:
        """Let an hour pass; a row for every few minutes, and one for when all has expired."""
        import shmmap

        writes = setup.workload.scale.churn_writes
        m = shmmap.ShmMap.create(
            unique_name(), capacity=writes * 300, ephemeral=True, sweep_interval=None
        )
        try:
            clock = freeze(m)
            for key in map(key_of, range(writes * 300)):  # every shard gets its deadlines
                m.set(key, b"", ttl=SHORT_S)
            expire(m, clock)
            before, rng = m.stats(), random.Random(SEED)
            rows = []
            for minute in range(self.minutes):
                for second in range(60):
                    churn_for_a_second(m, (minute * 60 + second) * writes, writes, rng)
                    clock.frozen_ns += SECOND_NS
                    m.sweep_if_due()
                if (minute + 1) % self.every == 0:
                    rows.append(self.row(minute + 1, m.stats()))
                progress.step()
            expire(m, clock)
            return [*rows, self.row(self.minutes + 2, m.stats(), grown(before, m))]
        finally:
            remove(m)

    def row(self, minute: int, stats: Any, problem: str = "") -> Row:
        """Tell what the map holds after so many minutes."""
        figures = {"bytes": [float(stats.allocated_bytes)], "count": [float(stats.entries)]}
        facts = {"free_slots": stats.free_slots, "expired": stats.expired, "writes": stats.writes}
        return Row.of(self.name, OURS, figures, problem, {"minute": minute}, facts)


def expire(m: Any, clock: Any) -> None:
    """Let all that has a ttl expire, and sweep it."""
    clock.frozen_ns += 120 * SECOND_NS
    m.sweep()


def churn_for_a_second(m: Any, first: int, writes: int, rng: random.Random) -> None:
    """Write new keys; overwrite some of them, and delete others."""
    for number in range(first, first + writes):
        m.set(key_of(number), value_of("churn ", rng.choice((20, 100, 300))), ttl=60.0)
        if rng.random() < 0.2:
            m.set(key_of(max(0, number - rng.randrange(100))), value_of("again "), ttl=60.0)
        if rng.random() < 0.1:
            m.pop(key_of(max(0, number - rng.randrange(100))), None)


def grown(before: Any, m: Any) -> str:
    """Say what is there at the end that was not at the start; "": nothing."""
    after = m.stats()
    for what in ("entries", "free_slots", "live_bytes", "allocated_bytes"):
        if getattr(after, what) != getattr(before, what):
            return f"{what}: {getattr(before, what):,} before, {getattr(after, what):,} after"
    return "; ".join(m.check()[:1])


CLEANUP = Cleanup(
    "cleanup", "sweep of a map of which 0.1 to 50 % have expired",
    (
        Plot("", "A whole sweep", "expired", "ms", "xy"),
        Plot("hold", "99 of 100 holds of a lock", "expired", "p99_ns", "x"),
        Plot("entry", "Time of the sweep for an expired entry", "expired", "ns", "xy"),
    ),
)
CHURN = Churn(
    "churn", "an hour of expiring entries, on a simulated clock",
    (
        Plot("", "Memory of the map", "minute", "bytes"),
        Plot("entries", "Entries", "minute", "count"),
    ),
)
