"""Tiny runs of the bench's experiments, and what each must leave behind: nothing."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

import shmmap  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # at the end: the shmmap under test stays the one imported above

from bench.core.results import UNITS, Row  # noqa: E402
from bench.core.run import Setup  # noqa: E402
from bench.core.workloads import QUICK, Workload  # noqa: E402

TINY = QUICK._replace(
    keys=100, hot=8, batches=4, seconds=0.05, shards=(1, 4), listing=(300,), cleanup_entries=3_000,
    experiment_seconds=0.05, experiment_repetitions=2, write_shares=(0.0, 50.0),
    evenness_keys=3_000, evenness_seeds=3, churn_writes=5, boxed_entries=500,
)


class Steps:
    """Stands in for a progress bar, and counts."""

    done = 0

    def step(self) -> None:
        self.done += 1


@pytest.fixture(autouse=True)
def nothing_left():
    """No experiment leaves shared memory, a temporary directory or a process."""
    temporary = set(os.listdir(tempfile.gettempdir()))
    yield
    assert [e for e in os.listdir("/dev/shm") if f"bench-{os.getpid()}-" in e] == []
    left = set(os.listdir(tempfile.gettempdir())) - temporary
    assert [entry for entry in left if entry.startswith("shmmap-bench-build-")] == []
    assert multiprocessing.active_children() == []


def rows_of(scenario: Any, scale: Any = TINY, processes: tuple[int, ...] = (1, 2)) -> list[Row]:
    setup, steps = Setup(Workload(scale), [], processes), Steps()
    rows = scenario.run(setup, steps)
    assert steps.done == scenario.steps(setup)
    assert [row.problem for row in rows if row.problem] == []
    assert {row.scenario for row in rows} == {scenario.name}
    for plot in scenario.plots:
        assert plot.y in UNITS and all(plot.x in row.point for row in rows)
    return rows
