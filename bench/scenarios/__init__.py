"""The questions that a run asks: a file each, all listed here, in the order in which they run.

To add one: a module whose docstring begins with the question, with a tuple SCENARIOS of objects
that have what core.scenario.Scenario lists; and its name in MODULES. `cache/` has what concerns
the map as a cache, `design/` what compares the map with itself: other settings, other designs.
"""

from __future__ import annotations

import importlib
from functools import lru_cache  # not `cache`: a folder here has that name

from ..core.scenario import Scenario

MODULES = (
    "latency", "values", "startup", "load", "two_readers",
    "design.shards", "design.auto_shards", "design.designs", "design.listing", "design.evenness",
    "design.cleanup", "design.churn_hour", "design.boxed", "design.resize", "design.shards_online",
    "memory", "memory_by_size", "churn", "capacity",
    "cache.hit_ratios", "cache.mixed_sizes", "cache.near", "cache.snapshots", "cache.stampede",
    "web", "rates", "tiered", "machine_limits", "reconcile",
)
# What `python -m bench cache` shows beside the scenarios of `cache/`, as parts of names; and what
# of that it shows with --quick.
BESIDE_CACHE = ("memory-curve", "memory-churn")
BESIDE_CACHE_QUICKLY = (
    "memory-curve", "memory-churn-64", "memory-churn-1040", "memory-churn-mixed",
    "memory-churn-ttl-116",
)


@lru_cache
def scenarios(folder: str = "") -> tuple[Scenario, ...]:
    """List all scenarios, or those of a folder.

    Not at import: each worker process imports this package for its job's module, and would pay
    for all the others, numpy among them.
    """
    found: list[Scenario] = []
    for module in MODULES:
        if module.startswith(folder):
            found += importlib.import_module(f"{__name__}.{module}").SCENARIOS
    return tuple(found)


def select(only: str = "", quick: bool = False) -> list[Scenario]:
    """List the scenarios whose name has one of the comma-separated parts.

    With `quick` and no parts, those that --quick asks. A scenario that is named is always there.

    >>> [scenario.name for scenario in select("filled-")]
    ['filled-64']
    """
    parts = [part for part in only.split(",") if part]
    if not parts:
        return [scenario for scenario in scenarios() if scenario.quick or not quick]
    return [s for s in scenarios() if any(part in s.name for part in parts)]


def select_cache(only: str = "", quick: bool = False) -> list[Scenario]:
    """List the scenarios of `python -m bench cache`, or those of them whose name has a part."""
    mine = scenarios("cache.")
    shown = [*mine, *select(",".join(BESIDE_CACHE))]
    beside = BESIDE_CACHE_QUICKLY if quick else BESIDE_CACHE
    wanted = select(only) if only else [*mine, *select(",".join(beside))]
    return [scenario for scenario in shown if scenario in wanted]
