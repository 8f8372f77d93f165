"""shmmap: a dict that every process on the machine shares."""

from . import _once

_once.restore(__name__, __file__)  # of an earlier import, dropped since

from ._engine import choose_engine  # noqa: E402

choose_engine()

from .copies.dumps import DumpReport  # noqa: E402
from .copies.merging import MergeReport  # noqa: E402
from .copies.snapshots import Snapshot  # noqa: E402
from .errors import (  # noqa: E402
    ConfigMismatch,
    DumpCorrupted,
    EditConflict,
    EntryTooLarge,
    LockLost,
    LockTimeout,
    MapClosed,
    MapCorrupted,
    MapExists,
    MapFull,
    MapMismatchWarning,
    MapNotFound,
    MapUnlinked,
    Reentered,
    ShardBusy,
    SharedMemoryFull,
    ShmMapError,
    StoreRefused,
    StoreUnavailable,
    SystemCallError,
    ValueUnreadable,
    WorkersFull,
)
from .lifecycle.control import ENGINE  # noqa: E402
from .lifecycle.event_ring import Event  # noqa: E402
from .lifecycle.stats import Stats, StatsSince  # noqa: E402
from .lifecycle.sweeper import SweepReport  # noqa: E402
from .lifecycle.timings import Histogram  # noqa: E402
from .lifecycle.unlinking import unlink  # noqa: E402
from .locks.named_locks import Lock  # noqa: E402
from .locks.semaphores import Semaphore  # noqa: E402
from .map import ShmMap, _reattach  # noqa: E402, F401
from .operations.changes import DELETE  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .decorator import cached
    from .mirroring.mirror import Mirror
    from .mirroring.tally import MirrorReport
    from .moving.tuning import AutoShards
    from .rates import RateLimit, RateLimiter
    from .tiers.reconciling import ReconcileReport
    from .tiers.tiered import Tiered
    from .tools.metrics import openmetrics
    from .tools.overview import MapInfo, maps

__version__ = "0.1.0"

__all__ = [
    "DELETE",
    "ENGINE",
    "AutoShards",
    "ConfigMismatch",
    "DumpCorrupted",
    "DumpReport",
    "EditConflict",
    "EntryTooLarge",
    "Event",
    "Histogram",
    "Lock",
    "LockLost",
    "LockTimeout",
    "MapClosed",
    "MapCorrupted",
    "MapExists",
    "MapFull",
    "MapInfo",
    "MapMismatchWarning",
    "MapNotFound",
    "MapUnlinked",
    "MergeReport",
    "Mirror",
    "MirrorReport",
    "RateLimit",
    "RateLimiter",
    "ReconcileReport",
    "Reentered",
    "Semaphore",
    "ShardBusy",
    "SharedMemoryFull",
    "ShmMap",
    "ShmMapError",
    "Snapshot",
    "Stats",
    "StatsSince",
    "StoreRefused",
    "StoreUnavailable",
    "SweepReport",
    "SystemCallError",
    "Tiered",
    "ValueUnreadable",
    "WorkersFull",
    "__version__",
    "cached",
    "maps",
    "openmetrics",
    "unlink",
]

_LATER = {  # what needs inspect and asyncio, or numpy
    "decorator": ("cached",),
    "mirroring.mirror": ("Mirror",),
    "mirroring.tally": ("MirrorReport",),
    "moving.tuning": ("AutoShards",),
    "rates": ("RateLimit", "RateLimiter"),
    "tiers.reconciling": ("ReconcileReport",),
    "tiers.tiered": ("Tiered",),
    "tools.metrics": ("openmetrics",),
    "tools.overview": ("MapInfo", "maps"),
}


def __getattr__(name: str) -> object:
    """Import at its first use what needs more than a map does. All else is there from the start: a
    process that has a map open, or wants to open one, may be unable to import anything more."""
    for home, names in _LATER.items():
        if name in names:
            from importlib import import_module

            found: object = getattr(import_module(f".{home}", __name__), name)
            globals()[name] = found
            _once.remember(__name__)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the interface, and what every module has."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


_once.remember(__name__)
