"""How many reads does the map answer, beside eviction policies of the same size, on each trace?"""

from __future__ import annotations

from typing import Any, NamedTuple

from ...core.progress import Progress
from ...core.results import HIT_PREFIX, Row
from ...core.scenario import Plot, Scenario, Setup
from ...policies import POLICIES, Lru
from ...policies.real_map import MODES, RealMap, describe
from ...policies.traces import TRACES, Trace
from ..families import HIT_RATIOS


class HitRatio(NamedTuple):
    """One trace, caches of several sizes; each repetition draws the trace with another seed."""

    trace: Trace
    family: str = HIT_RATIOS
    quick: bool = False  # `python -m bench cache` asks all of them

    @property
    def name(self) -> str:
        """As on the command line."""
        return HIT_PREFIX + self.trace.name

    @property
    def title(self) -> str:
        """One line."""
        return f"hit ratio: {self.trace.title}"

    @property
    def plots(self) -> tuple[Plot, ...]:
        """Hits by the size of the cache."""
        return (Plot("", f"Hit ratio: {self.trace.title}", "entries", "hit_percent", "x"),)

    def sizes(self, setup: Setup) -> list[tuple[int, int]]:
        """List (entries, requests)."""
        return [size for size in setup.scale.caches if size[0] <= self.trace.most]

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return len(self.sizes(setup)) * setup.scale.cache_repetitions

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Replay the trace to the map and to each policy."""
        rows: list[Row] = []
        for entries, requests in self.sizes(setup):
            turns = []
            for seed in range(setup.scale.cache_repetitions):
                turns.append(replay(self.trace.keys(entries, requests, seed), entries))
                progress.step()
            rows += rows_of_size(self.name, entries, turns)
        return rows


class Turn(NamedTuple):
    """What a cache did in one repetition."""

    hits: int
    requests: int
    problem: str
    facts: dict[str, Any]


def replay(keys: list[int], wanted: int) -> dict[str, Turn]:
    """Replay a trace to all caches: name -> turn. All hold as many entries as the map does."""
    turns: dict[str, Turn] = {}
    held = wanted
    for name, shards in MODES.items():
        real = RealMap(held, shards)
        try:
            held = real.entries
            hits = real.replay(keys)
            facts = {"held": held, **describe(real.handle), "left_out": left_out()}
            turns[name] = Turn(hits, len(keys), real.problem(keys, hits), facts)
        finally:
            real.close()
    for policy in POLICIES:
        if not policy.missing():
            hits = policy(held).replay(keys)
            turns[policy.name] = Turn(hits, len(keys), "", {"held": held})
    return turns


def left_out() -> str:
    """Name the policies that cannot run here, and what to do about it; "": none."""
    return "; ".join(f"{p.name}: {p.missing()}" for p in POLICIES if p.missing())


def rows_of_size(scenario: str, entries: int, turns: list[dict[str, Turn]]) -> list[Row]:
    """Return a row for each cache, with a figure for each repetition."""
    rows = []
    for name in turns[0]:
        mine = [turn[name] for turn in turns]
        percent = [100.0 * turn.hits / turn.requests for turn in mine]
        over = [
            100.0 * (turn[name].hits - turn[Lru.name].hits) / turn[name].requests for turn in turns
        ]
        rows.append(Row.of(
            scenario, name, {"hit_percent": percent, "over_lru": over},
            next((turn.problem for turn in mine if turn.problem), ""),
            point={"entries": entries}, facts={"requests": mine[-1].requests, **mine[-1].facts},
        ))
    return rows


SCENARIOS: tuple[Scenario, ...] = tuple(HitRatio(trace) for trace in TRACES)
