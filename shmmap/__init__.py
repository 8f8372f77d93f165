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
    SystemCallError,
    ValueUnreadable,
    WorkersFull,
)
from .lifecycle.control import ENGINE  # noqa: E402
from .lifecycle.stats import Stats  # noqa: E402
from .lifecycle.sweeper import SweepReport  # noqa: E402
from .lifecycle.unlinking import unlink  # noqa: E402
from .locks.named_locks import Lock  # noqa: E402
from .locks.semaphores import Semaphore  # noqa: E402
from .map import ShmMap, _reattach  # noqa: E402
from .operations.changes import DELETE  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .decorator import cached
    from .mirroring.mirror import Mirror
    from .mirroring.tally import MirrorReport
    from .moving.tuning import AutoShards
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


def __getattr__(name: str) -> object:
    """Import at its first use what needs more than a map does: `cached`, with inspect and asyncio,
    `RateLimiter`, `Mirror` and `AutoShards`, and `maps`, with numpy. All else is there from the
    start: a process that has a map open may be unable to import anything more."""
    home: object
    if name == "cached":
        from . import decorator as home
    elif name in ("RateLimit", "RateLimiter"):
        from . import rates as home
    elif name == "Mirror":
        from .mirroring import mirror as home
    elif name == "MirrorReport":
        from .mirroring import tally as home
    elif name == "AutoShards":
        from .moving import tuning as home
    elif name in ("MapInfo", "maps"):
        from .tools import overview as home
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(home, name)
    _name_it(found)
    globals()[name] = found
    _once.remember(__name__)
    return found


def __dir__() -> list[str]:
    """List the interface, and what every module has."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


def _name_it(public: object) -> None:
    """Have a class say that it is found here: a pickle of it, in a map or a dump, must not name
    the module where it happens to stand. Nor may one of a map: to import a module of a package
    that another thread is importing does not wait for the package."""
    if isinstance(public, type) and public.__module__.startswith(f"{__name__}."):
        public.__module__ = __name__


_reattach.__module__ = __name__
for _public in list(globals().values()):
    _name_it(_public)
del _public
_once.remember(__name__)
