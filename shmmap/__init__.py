"""shmmap: a dict that every process on the machine shares."""

from . import _once

_once.restore(__name__, __file__)  # of an earlier import, dropped since

from ._engine import choose_engine  # noqa: E402

choose_engine()

from .copies.dumps import DumpReport  # noqa: E402
from .copies.merging import MergeReport  # noqa: E402
from .copies.snapshots import Snapshot  # noqa: E402
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
from .locks.semaphores import Semaphore  # noqa: E402
from .map import ShmMap, _reattach  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .decorator import cached

__version__ = "0.1.0"

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
    "Semaphore",
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


def __getattr__(name: str) -> object:
    """Import `cached` at its first use, and with it inspect and asyncio. All else is there from the
    start: a process that has a map open may be unable to import anything more."""
    if name != "cached":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .decorator import cached

    globals()[name] = cached
    _once.remember(__name__)
    return cached


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


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
