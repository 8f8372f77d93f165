"""Every planted fault."""

from __future__ import annotations

from .changes import CHANGING
from .creation import CREATION
from .locking import LOCKING
from .moving import MOVING
from .mutant import Mutant
from .named_locks import NAMED_LOCKS
from .near_cache import NEAR_CACHE
from .reading import READING
from .repairing import REPAIRING
from .replacing import REPLACING
from .snapshots import SNAPSHOTS
from .tombstones import TOMBSTONES
from .writing import WRITING

MUTANTS: tuple[Mutant, ...] = (
    *WRITING, *CHANGING, *READING, *NEAR_CACHE, *LOCKING, *REPAIRING, *SNAPSHOTS, *CREATION,
    *NAMED_LOCKS, *REPLACING, *MOVING, *TOMBSTONES,
)
