"""One run: which scenarios there are, in which order they run, and what comes of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from . import capacity, latency, memory, readers, targets
from .machine import describe_engine, describe_machine, load_average, python_command, timestamp
from .peers import Peer, present_peers
from .progress import Progress
from .workloads import SEED, Scale, Workload

# A family of scenarios is a module with SCENARIOS (each with name, title, steps(), run()) and
# metrics(rows). A new family is one module and one line here.
FAMILIES: dict[str, ModuleType] = {
    "latency": latency, "readers": readers, "memory": memory, "capacity": capacity,
}


def select(only: str = "") -> list[tuple[str, Any]]:
    """List (family, scenario) of all scenarios whose name has one of the comma-separated parts.

    >>> [scenario.name for _, scenario in select("incr,filled-")]
    ['incr-hot', 'filled-64']
    """
    parts = [part for part in only.split(",") if part] or [""]
    return [
        (family, scenario)
        for family, module in FAMILIES.items()
        for scenario in module.SCENARIOS
        if any(part in scenario.name for part in parts)
    ]


def run(
    scale: Scale, only: str = "", peers: list[type[Peer]] | None = None, quiet: bool = False,
    announce: Callable[[dict[str, Any]], None] = lambda results: None,
) -> dict[str, Any]:
    """Run the selected scenarios; gives everything that the report and the JSON tell.

    Args:
        scale: how much.
        only: parts of scenario names, comma-separated; "": all.
        peers: the peers to run; default: all that are installed.
        quiet: no progress bar.
        announce: called with all that is known before the first scenario.
    """
    chosen = select(only)
    present, absent = present_peers()
    peers = present if peers is None else peers
    workload = Workload(scale)
    results = describe_run(scale, chosen, peers, absent)
    announce(results)
    figures: dict[str, float] = {}
    with Progress(sum(s.steps(workload, peers) for _, s in chosen), quiet) as progress:
        for family, scenario in chosen:
            progress.label(scenario.name)
            start = time.monotonic()
            rows = scenario.run(workload, peers, progress)
            results["took_s"][scenario.name] = round(time.monotonic() - start, 2)
            if family == "latency":
                latency.add_ratios(rows)
            figures.update(FAMILIES[family].metrics(rows))
            results["rows"].setdefault(family, []).extend(rows)
    results["metrics"] = figures
    results["targets"] = targets.judge(
        figures, results["engine"]["engine"], [scenario.name for _, scenario in chosen]
    )
    results["ended"] = timestamp()
    results["load_average_at_end"] = load_average()
    return results


def describe_run(
    scale: Scale, chosen: list[tuple[str, Any]], peers: list[type[Peer]], absent: dict[str, str]
) -> dict[str, Any]:
    """Give all that is known before anything ran."""
    return {
        "format": 1,
        "command": python_command(),
        "started": timestamp(),
        "engine": describe_engine(),
        "machine": describe_machine(),
        "scale": scale._asdict(),
        "seed": SEED,
        "scenarios": {scenario.name: scenario.title for _, scenario in chosen},
        "peers": {p.name: {"version": p.version(), "setting": p.setting} for p in peers},
        "skipped_peers": absent,
        "took_s": {},
        "rows": {},
    }


def problems(results: dict[str, Any]) -> list[str]:
    """List the wrong answers found, by scenario and peer."""
    return [
        f"{row['scenario']}, {row['peer']}: {row['problem']}"
        for rows in results["rows"].values()
        for row in rows
        if row["problem"]
    ]
