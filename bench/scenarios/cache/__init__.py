"""The map as a cache: what `python -m bench cache` shows.

A scenario of a cache's feature belongs here: a module beside this one with its scenarios, listed
in SCENARIOS. What is measured elsewhere and
belongs to the picture of a cache is in ALSO, by parts of names as for --only; in QUICKLY what of
that --quick shows too.
"""

from __future__ import annotations

from ...core.scenario import Scenario
from . import near, snapshots, stampede
from .hit_ratios import HIT_RATIOS
from .mixed_sizes import MIXED

SCENARIOS: tuple[Scenario, ...] = (
    *HIT_RATIOS, *MIXED, *near.SCENARIOS, *snapshots.SCENARIOS, *stampede.SCENARIOS,
)
ALSO = ("memory-curve", "memory-churn")
QUICKLY = (
    "memory-curve", "memory-churn-64", "memory-churn-1040", "memory-churn-mixed",
    "memory-churn-ttl-116",
)
