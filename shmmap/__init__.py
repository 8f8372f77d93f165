"""shmmap: a dict that every process on the machine shares."""

from . import _once

_once.restore(__name__, __file__)  # of an earlier import, dropped since

from ._engine import choose_engine  # noqa: E402

choose_engine()

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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .copies.dumps import DumpReport
    from .copies.merging import MergeReport
    from .copies.snapshots import Snapshot
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

_LATER = {  # imported at their first use: not every program copies maps, or caches calls
    "DumpReport": "copies.dumps", "MergeReport": "copies.merging", "Snapshot": "copies.snapshots",
    "cached": "decorator",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    _name_it(found)
    globals()[name] = found
    _once.remember(__name__)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _name_it(public: object) -> None:
    """Have a class say that it is found here: a pickle of it, in a map or a dump, must not name
    the module where it happens to stand."""
    if isinstance(public, type) and public.__module__.startswith(f"{__name__}."):
        public.__module__ = __name__


for _public in list(globals().values()):
    _name_it(_public)
del _public
_once.remember(__name__)
