"""Experiments on the map itself: settings and designs that differ in one thing only."""

from __future__ import annotations

from .boxed import BOXED
from .cleanup import CHURN, CLEANUP
from .designs import DESIGNS
from .evenness import EVENNESS
from .listing import LISTING
from .shards import SHARDS

SCENARIOS = (SHARDS, *DESIGNS, LISTING, EVENNESS, CLEANUP, CHURN, BOXED)
