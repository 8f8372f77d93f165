"""Every scenario of a map."""

from __future__ import annotations

from .changes import CHANGES
from .deadlines import DEADLINES
from .near_cache import NEAR_CACHE
from .reads import READS
from .room import ROOM
from .scenario import Scenario
from .snapshots import SNAPSHOTS
from .three_workers import THREE_WORKERS
from .writes import WRITES

SCENARIOS: tuple[Scenario, ...] = (
    *READS, *NEAR_CACHE, *WRITES, *CHANGES, *DEADLINES, *ROOM, *THREE_WORKERS, *SNAPSHOTS,
)
