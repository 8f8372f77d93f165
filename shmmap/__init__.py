"""shmmap: a dict that every process on the machine shares."""

from . import _once

_once.restore(__name__, __file__)  # of an earlier import, dropped since

from ._engine import choose_engine  # noqa: E402

choose_engine()

from .copies.dumps import DumpReport  # noqa: E402
from .copies.merging import MergeReport  # noqa: E402
from .copies.snapshots import Snapshot  # noqa: E402
from .decorator import cached  # noqa: E402
from .errors import (  # noqa: E402
    CacheWarning,
    ConfigMismatch,
    DumpCorrupted,
    EntryTooLarge,
    LockLost,
    LockTimeout,
    MapClosed,
    MapCorrupted,
    MapExists,
    MapFull,
    MapNotFound,
    MapUnlinked,
    Reentered,
    ShardBusy,
    SharedMemoryFull,
    ShmMapError,
    SystemCallError,
    WorkersFull,
)
from .lifecycle.control import ENGINE  # noqa: E402
from .lifecycle.stats import Stats  # noqa: E402
from .lifecycle.sweeper import SweepReport  # noqa: E402
from .locks.named_locks import Lock  # noqa: E402
from .map import ShmMap  # noqa: E402

__version__ = "0.1.0"
_once.remember(__name__)

__all__ = [
    "ENGINE",
    "CacheWarning",
    "ConfigMismatch",
    "DumpCorrupted",
    "DumpReport",
    "EntryTooLarge",
    "Lock",
    "LockLost",
    "LockTimeout",
    "MapClosed",
    "MapCorrupted",
    "MapExists",
    "MapFull",
    "MapNotFound",
    "MapUnlinked",
    "MergeReport",
    "Reentered",
    "ShardBusy",
    "SharedMemoryFull",
    "ShmMap",
    "ShmMapError",
    "Snapshot",
    "Stats",
    "SweepReport",
    "SystemCallError",
    "WorkersFull",
    "__version__",
    "cached",
]

# So that a pickle, in a map or a dump, does not name the module where a class happens to stand.
for _public in list(globals().values()):
    if isinstance(_public, type) and _public.__module__.startswith(f"{__name__}."):
        _public.__module__ = __name__
del _public
