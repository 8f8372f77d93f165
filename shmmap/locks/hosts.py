"""What named locks and the life of a map ask of a handle, and of what its process has of the map.

For mypy only; nothing here is imported at run time. `ShmMap` and `Attachment` lie on floors above,
so they are described here; both are compared with this where they are passed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..operations.host import Host

if TYPE_CHECKING:
    from mmap import mmap
    from weakref import WeakValueDictionary

    from ..checks import Key, Value
    from ..operations._near_cy import NearStore
    from ..shard._shard_cy import Shard
    from ..system.mutex import Mutex
    from ..system.worker_table import Worker
    from .lock_table import LockShard, LockTable

Done = TypeVar("Done")


class Attached(Host, Protocol):
    """A map as one process has it: what a handle is bound to, and what locks use beside that. See
    `Attachment`."""

    worker: Worker
    locks: LockShard
    fork_memory: mmap  # two words: see ForkPage
    handles: WeakValueDictionary[int, MapHandle]  # of this process, by number

    def notice_removal(self) -> None:
        """Refuse a map that was unlinked, or replaced, or whose files were removed."""


class Asked(Protocol):
    """What a map was asked for with: a Request, of the floor above."""

    @property
    def wanted(self) -> object:
        """The parameters that were said."""

    @property
    def auto_shards(self) -> object:
        """How the number of shards is chosen; None: nothing was said."""


class MapHandle(Protocol):
    """A handle on a map: see `ShmMap`, and `Handle` for what is the engine's."""

    name: str
    closed: bool
    attachment: Attached
    near: NearStore | None
    _sweeping: bool  # it has the map swept in the background
    _at_last: Callable[[], object] | None  # what the last operation does where it was closed
    _handle_number: int
    _last_words: object
    _turn: Mutex  # of the task that has it go over to another map: see `reopening`
    _turning: bool
    _ways: Any  # how a map is joined: `opening`
    _lock_timeout: float
    _coder: Any
    _table: LockTable | None

    @property
    def _request(self) -> Asked:
        """What it was opened with."""

    @property
    def _live(self) -> Attached:
        """The attachment; MapClosed where there is none any more."""

    def close(self) -> None:
        """Let it go."""

    def _inside(self) -> AbstractContextManager[Attached]:
        """Have `close` wait for what is done with the attachment."""

    def _in_one_map(self, act: Callable[[Attached], Done]) -> Done:
        """Do what consists of several operations; begin again where the map was replaced."""

    def _lock_table(self) -> LockTable:
        """Return this handle's way to the lock shard."""

    def _use(self, attachment: Attached, number: int) -> None:
        """Use the memory of an attachment, as the handle of that number."""

    def _seal(self) -> bool:
        """Let no more operations begin; False: it was sealed before."""

    def _under_way(self) -> tuple[int, int]:
        """Count the operations of other threads, and those of this one."""

    def _after_round(self, attachment: Attached) -> None:
        """Do what is done each time that this process has swept the map."""

    def _tally(self) -> None:
        """Count what was answered without a look at shared memory."""

    def _after_fork(self) -> None:
        """Start anew in a child."""

    def _route(self, shards: list[Shard]) -> None:
        """Go by these shards from here on."""

    def _look_after(self, attached: Any) -> None:
        """See that a map that is on its way to another shape gets there."""

    def _routes(self) -> list[Shard]:
        """Return the shards that it goes by."""

    def get(self, key: Key, default: Value = None) -> Value:
        """See ShmMap."""

    def set(self, key: Key, value: Value, ttl: float | None = ...) -> None:
        """See ShmMap."""

    def ttl(self, key: Key) -> float | None:
        """See ShmMap."""
