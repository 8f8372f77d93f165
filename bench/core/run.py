"""One run: which scenarios there are, in which order they run, and what comes of them."""

from __future__ import annotations

import importlib
import os
import re
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ..peers import EmptyLoop, Peer, present_peers
from . import results as figures
from . import targets
from .machine import describe_engine, describe_machine, load_average, python_command, timestamp
from .progress import Progress
from .results import Row
from .scenario import Scenario
from .workloads import SEED, Scale, Workload

FORMAT = 2
SHM = Path("/dev/shm")

# A family is a module or package of this name in scenarios, with a tuple SCENARIOS. In this order
# they run.
FAMILIES = ("latency", "load", "design", "memory", "churn", "capacity", "cache")


class Setup(NamedTuple):
    """What every scenario is given.

    Attributes:
        workload: keys, values and how much of everything (`workload.scale`).
        peers: the stores to compare.
        processes: numbers of worker processes, where that is varied.
    """

    workload: Workload
    peers: list[type[Peer]]
    processes: tuple[int, ...]


@cache
def scenarios() -> tuple[Scenario, ...]:
    """List all scenarios of all families. Not at import: families import Setup from here."""
    found: list[Scenario] = []
    for family in FAMILIES:
        found += importlib.import_module(f"bench.scenarios.{family}").SCENARIOS
    return tuple(found)


def select(only: str = "", quick: bool = False) -> list[Scenario]:
    """List the scenarios whose name has one of the comma-separated parts.

    With `quick` and no parts, those that --quick asks: who names a scenario gets it.

    >>> [scenario.name for scenario in select("filled-")]
    ['filled-64']
    """
    parts = [part for part in only.split(",") if part]
    if not parts:
        return [scenario for scenario in scenarios() if scenario.quick or not quick]
    return [s for s in scenarios() if any(part in s.name for part in parts)]


def select_cache(only: str = "", quick: bool = False) -> list[Scenario]:
    """List the scenarios of `python -m bench cache`, or those of them whose name has a part."""
    from ..scenarios import cache as family

    shown = [*family.SCENARIOS, *select(",".join(family.ALSO))]
    also = family.QUICKLY if quick else family.ALSO
    wanted = select(only) if only else [*family.SCENARIOS, *select(",".join(also))]
    return [scenario for scenario in shown if scenario in wanted]


def named(peers: Sequence[type[Peer]], wanted: str) -> list[type[Peer]]:
    """List the peers of these comma-separated names or parts of names; "": all.

    A name that is one peer's whole name means that one only. Our map and the empty loop are
    always there: the ratios and the net figures are made with them.
    """
    if not wanted:
        return list(peers)
    chosen = {figures.OURS, EmptyLoop.name}
    for part in wanted.lower().split(","):
        whole = {peer.name for peer in peers if peer.name.lower() == part}
        found = whole or {peer.name for peer in peers if part and part in peer.name.lower()}
        if not found:
            raise ValueError(f"no peer is called {part!r}: {', '.join(p.name for p in peers)}")
        chosen |= found
    return [peer for peer in peers if peer.name in chosen]


def run(
    scale: Scale, chosen: Sequence[Scenario], peers: list[type[Peer]] | None = None,
    processes: tuple[int, ...] = (), quiet: bool = False,
    announce: Callable[[dict[str, Any]], None] = lambda results: None,
) -> dict[str, Any]:
    """Run scenarios; gives everything that the report, the plots and the JSON tell.

    A scenario that fails is told as failed, and the next one runs; after Ctrl-C none does. What
    was measured before is kept.

    Args:
        scale: how much.
        chosen: the scenarios, as select() gives them.
        peers: the peers to run; default: all that are installed.
        processes: numbers of worker processes; default: the scale's.
        quiet: no progress bar.
        announce: called with all that is known before the first scenario.
    """
    present, absent = present_peers()
    setup = Setup(
        Workload(scale), present if peers is None else peers, processes or scale.processes
    )
    results = describe_run(setup, chosen, absent)
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
            results["metrics"] |= figures.metrics(own)
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
    setup: Setup, chosen: Sequence[Scenario], absent: dict[str, str]
) -> dict[str, Any]:
    """Return all that is known before anything ran."""
    return {
        "format": FORMAT,
        "command": python_command(),
        "started": timestamp(),
        "engine": describe_engine(),
        "machine": describe_machine(),
        "scale": setup.workload.scale._asdict(),
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
        "skipped_peers": absent,
        "took_s": {},
        "failures": {},
        "interrupted": False,
        "rows": [],
        "metrics": {},
    }


def problems(results: dict[str, Any]) -> list[str]:
    """List what went wrong: wrong answers by scenario and row, and scenarios that failed."""
    wrong = [
        f"{row.scenario}, {row.label()}: {row.problem}"
        for row in (Row(**row) for row in results["rows"])
        if row.problem
    ]
    return wrong + [f"{name} failed: {why}" for name, why in results["failures"].items()]
