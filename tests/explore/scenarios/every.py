"""Every scenario: of a map's operations, and of its life."""

from __future__ import annotations

from ..simulator.creation_world import Processes
from .changes import CHANGES
from .creations import CREATIONS
from .deadlines import DEADLINES
from .moves import MOVES
from .near_cache import NEAR_CACHE
from .reads import READS
from .replacings import REPLACINGS
from .room import ROOM
from .scenario import Scenario
from .snapshots import SNAPSHOTS
from .three_workers import THREE_WORKERS
from .tombstones import MOVED_TOMBSTONES, TOMBSTONES
from .writes import WRITES

SCENARIOS: tuple[Scenario, ...] = (
    *READS, *NEAR_CACHE, *WRITES, *CHANGES, *DEADLINES, *ROOM, *THREE_WORKERS, *SNAPSHOTS,
    *TOMBSTONES,
)
MOVING: tuple[Scenario, ...] = (*MOVES, *MOVED_TOMBSTONES)
LIVES: tuple[Processes, ...] = (*CREATIONS, *REPLACINGS)
