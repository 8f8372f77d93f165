"""Does an hour of entries that come, expire and are swept leave anything behind in a map?"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from ...core.peer import unique_name
from ...core.progress import Progress
from ...core.results import OURS, Row
from ...core.scenario import Plot, Scenario, Setup
from ...core.workloads import SEED, key_of, value_of
from ...peers.own_map import freeze, remove
from ..families import THE_MAP_ITSELF

SHORT_S = 1.0
SECOND_NS = 10**9


class ChurnHour(NamedTuple):
    """An hour of a simulated clock: every second new keys with a ttl of a minute, of one to three
    slots, some of them overwritten or deleted, and a sweep whenever one is due."""

    name: str
    title: str
    plots: tuple[Plot, ...]
    minutes: int = 60
    every: int = 5
    quick: bool = False
    family: str = THE_MAP_ITSELF

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return self.minutes

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Let an hour pass; a row for every few minutes, and one for when all has expired."""
        import shmmap

        writes = setup.scale.churn_writes
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


CHURN_HOUR = ChurnHour(
    "churn", "an hour of expiring entries, on a simulated clock",
    (
        Plot("", "Memory of the map", "minute", "bytes"),
        Plot("entries", "Entries", "minute", "count"),
    ),
)
SCENARIOS: tuple[Scenario, ...] = (CHURN_HOUR,)
