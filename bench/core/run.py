"""One run: the scenarios in their order, what each costs, and what comes of them."""

from __future__ import annotations

import os
import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from . import targets
from .machine import (
    SHM,
    describe_engine,
    describe_machine,
    load_average,
    python_command,
    timestamp,
)
from .progress import Progress
from .results import FORMAT, Row, metrics
from .scenario import Scenario, Setup
from .workloads import SEED


def run(
    setup: Setup, chosen: Sequence[Scenario], skipped: Mapping[str, str] | None = None,
    quiet: bool = False, announce: Callable[[dict[str, Any]], None] = lambda results: None,
) -> dict[str, Any]:
    """Run scenarios; return everything that the report, the plots and the JSON tell.

    A scenario that fails is told as failed, and the next one runs; after Ctrl-C none does. What
    was measured before is kept.

    Args:
        setup: what every scenario is given.
        chosen: the scenarios.
        skipped: the peers that cannot run here, with the command that installs each.
        quiet: no progress bar.
        announce: called with all that is known before the first scenario.
    """
    results = describe_run(setup, chosen, dict(skipped or {}))
    announce(results)
    rows: list[Row] = []
    try:
        with Progress(sum(s.steps(setup) for s in chosen), quiet) as progress:
            for scenario in chosen:
                rows += _measure(scenario, setup, progress, results)
    except KeyboardInterrupt:
        results["interrupted"] = True
        remove_own_maps()
    results["rows"] = [row._asdict() for row in rows]
    for scenario in chosen:
        with _noting(scenario.name, results):
            own = [row for row in rows if row.scenario == scenario.name]
            results["metrics"] |= metrics(own)
    results["targets"] = targets.judge(
        results["metrics"], results["engine"]["engine"], [scenario.name for scenario in chosen]
    )
    results["ended"] = timestamp()
    results["load_average_at_end"] = load_average()
    return results


def remove_own_maps() -> None:
    """Remove what is left of this process's maps: Ctrl-C comes between any two steps, also
    between making a map and the `try` that would have removed it."""
    own = re.compile(rf"(sem\.)?shmmap\.bench-{os.getpid()}-.*")
    for entry in SHM.iterdir():
        if own.fullmatch(entry.name):
            entry.unlink(missing_ok=True)


def _measure(
    scenario: Scenario, setup: Setup, progress: Progress, results: dict[str, Any]
) -> list[Row]:
    """Run one scenario; without its rows if it fails."""
    progress.label(scenario.name)
    start = time.monotonic()
    rows: list[Row] = []
    with _noting(scenario.name, results):
        rows = scenario.run(setup, progress)
    results["took_s"][scenario.name] = round(time.monotonic() - start, 2)
    return rows


@contextmanager
def _noting(scenario: str, results: dict[str, Any]) -> Iterator[None]:
    """Note what fails, and where, and go on: nothing may cost what others measured."""
    try:
        yield
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{os.path.basename(at.filename)}:{at.lineno}"
        results["failures"][scenario] = f"{type(error).__name__}: {error} ({place})"


def describe_run(
    setup: Setup, chosen: Sequence[Scenario], skipped: dict[str, str]
) -> dict[str, Any]:
    """Return all that is known before anything ran."""
    return {
        "format": FORMAT,
        "command": python_command(),
        "started": timestamp(),
        "engine": describe_engine(),
        "machine": describe_machine(),
        "scale": setup.scale._asdict(),
        "processes": list(setup.processes),
        "seed": SEED,
        "scenarios": {
            scenario.name: {
                "title": scenario.title,
                "family": scenario.family,
                "plots": [plot._asdict() for plot in scenario.plots],
            }
            for scenario in chosen
        },
        "peers": {p.name: {"version": p.version(), "setting": p.setting} for p in setup.peers},
        "skipped_peers": skipped,
        "took_s": {},
        "failures": {},
        "interrupted": False,
        "rows": [],
        "metrics": {},
    }
