"""Tiny runs of scenarios of the bench."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bench.core.peer import Peer
from bench.core.results import UNITS, Row
from bench.core.run import run
from bench.core.scenario import Setup
from bench.core.workloads import QUICK, Scale, Workload

DESIGN_SCALE = QUICK._replace(
    keys=100, hot=8, batches=4, seconds=0.05, shards=(1, 4), listing=(300,), cleanup_entries=3_000,
    experiment_seconds=0.05, experiment_repetitions=2, write_shares=(0.0, 50.0),
    evenness_keys=3_000, evenness_seeds=3, churn_writes=5, boxed_entries=500,
)


class Steps:
    """Stands in for a progress bar, and counts."""

    def __init__(self) -> None:
        self.done = 0

    def step(self) -> None:
        self.done += 1


class Interrupting(Steps):
    """A progress bar at whose first step somebody presses Ctrl-C."""

    def step(self) -> None:
        raise KeyboardInterrupt


def setup_of(
    scale: Scale, kinds: Sequence[type[Peer]] = (), processes: tuple[int, ...] = (1,)
) -> Setup:
    """Return what a scenario is given."""
    return Setup(Workload(scale), list(kinds), processes)


def measured(scenario: Any, setup: Setup, steps: Steps | None = None) -> list[Row]:
    """Run one scenario; it must take the steps that it announces."""
    steps = steps or Steps()
    rows: list[Row] = scenario.run(setup, steps)
    assert steps.done == scenario.steps(setup)
    return rows


def design_rows(scenario: Any, scale: Scale = DESIGN_SCALE) -> list[Row]:
    """Run a scenario of the map itself; nothing may be wrong, and all must be there to be drawn."""
    rows = measured(scenario, setup_of(scale, processes=(1, 2)))
    assert [row.problem for row in rows if row.problem] == []
    assert {row.scenario for row in rows} == {scenario.name}
    for plot in scenario.plots:
        assert plot.y in UNITS and all(plot.x in row.point for row in rows)
    return rows


def kept(setup: Setup, *scenarios: Any) -> dict[str, Any]:
    """Run scenarios as the command line does; return what is read from the JSON."""
    found: dict[str, Any] = json.loads(json.dumps(run(setup, scenarios, quiet=True)))
    return found
