"""shmmap: a dict that every process on the machine shares."""

from . import _once

_once.restore(__name__, __file__)  # of an earlier import, dropped since

from ._engine import choose_engine  # noqa: E402

choose_engine()

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .copies.dumps import DumpReport
    from .copies.merging import MergeReport
    from .copies.snapshots import Snapshot
    from .decorator import cached
    from .errors import (
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
        SystemCallError,
        ValueUnreadable,
        WorkersFull,
    )
    from .lifecycle.control import ENGINE
    from .lifecycle.stats import Stats
    from .lifecycle.sweeper import SweepReport
    from .lifecycle.unlinking import unlink
    from .locks.named_locks import Lock
    from .locks.semaphores import Semaphore
    from .map import ShmMap
    from .mirroring.mirror import Mirror
    from .mirroring.tally import MirrorReport
    from .moving.tuning import AutoShards
    from .operations.changes import DELETE
    from .rates import RateLimit, RateLimiter
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
    "Reentered",
    "Semaphore",
    "ShardBusy",
    "SharedMemoryFull",
    "ShmMap",
    "ShmMapError",
    "Snapshot",
    "Stats",
    "SweepReport",
    "SystemCallError",
    "ValueUnreadable",
    "WorkersFull",
    "__version__",
    "cached",
    "maps",
    "unlink",
]

_TOGETHER = {  # where the names stand that a map needs, and those that come with it
    "copies.dumps": ("DumpReport",),
    "copies.merging": ("MergeReport",),
    "copies.snapshots": ("Snapshot",),
    "errors": (
        "ConfigMismatch", "DumpCorrupted", "EditConflict", "EntryTooLarge", "LockLost",
        "LockTimeout", "MapClosed", "MapCorrupted", "MapExists", "MapFull",
        "MapMismatchWarning", "MapNotFound", "MapUnlinked", "Reentered", "ShardBusy",
        "SharedMemoryFull", "ShmMapError", "SystemCallError", "ValueUnreadable",
        "WorkersFull",
    ),
    "lifecycle.control": ("ENGINE",),
    "lifecycle.stats": ("Stats",),
    "lifecycle.sweeper": ("SweepReport",),
    "lifecycle.unlinking": ("unlink",),
    "locks.named_locks": ("Lock",),
    "locks.semaphores": ("Semaphore",),
    "map": ("ShmMap", "_reattach"),
    "operations.changes": ("DELETE",),
}
_LATER = {  # of what needs more: inspect and asyncio, numpy
    "decorator": ("cached",),
    "mirroring.mirror": ("Mirror",),
    "mirroring.tally": ("MirrorReport",),
    "moving.tuning": ("AutoShards",),
    "rates": ("RateLimit", "RateLimiter"),
    "tools.overview": ("MapInfo", "maps"),
}


def __getattr__(name: str) -> object:
    """Load the package as the first of its names is used. All that a map needs comes in one: a
    process that has a map open may be unable to import anything more."""
    if name not in __all__ and name != "_reattach":  # modules import each other through here
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    later = {home: names for home, names in _LATER.items() if name in names}
    for home, names in (_TOGETHER | later).items():
        found = import_module(f".{home}", __name__)
        globals().update((one, getattr(found, one)) for one in names)
    _once.remember(__name__)
    return globals()[name]


def __dir__() -> list[str]:
    """List the interface, and what every module has."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


_once.remember(__name__)
