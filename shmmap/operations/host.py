"""What a handle is bound to: a map as this process has it, the lock shard, or a snapshot.

For mypy only: the classes themselves lie on floors above, where each is compared with this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..memory._clock_cy import Clock
    from ..memory.geometry import Geometry
    from ..shard._shard_cy import Shard

NEVER = 2**64 - 1  # no write has this version


class Row(Protocol):
    """Where a handle counts its operations, in `control_memory`."""

    @property
    def row(self) -> int:
        """The number of the row; a fork may change it."""

    def row_offset(self, row: int) -> int:
        """Return the first byte of a row."""

    @property
    def rows(self) -> int:
        """How many rows of workers there are; 0: it is no such table that has this one."""


class Judge(Row, Protocol):
    """A worker's row, which also tells who holds a lock, and whether that worker lives."""

    def is_dead(self, token: int) -> bool:
        """Tell whether the worker of a token is dead."""

    def pid_of(self, token: int) -> tuple[int, bool]:
        """Return the pid of a token; whether it counts as this process's namespace does."""


class Readable(Protocol):
    """What a handle that only reads is bound to."""

    name: str  # of the map, for messages
    seed: int  # of the hash function
    safe: bool  # it takes no pickles
    coder: Any  # of values that are not native: see `codecs.coder_of`
    ttl_ns: int  # of an entry that is written without one; 0: none
    wall_ns: int  # the wall clock at boot: see `memory.stamps`
    tombstones_ns: int  # for how long a delete leaves one; 0: it leaves none
    clock: Clock

    @property
    def geometry(self) -> Geometry:
        """How it is laid out."""

    @property
    def control_memory(self) -> object:
        """The control segment, or as much of it as a handle looks at: a buffer."""

    @property
    def fork_memory(self) -> object:
        """Two words, this process's token and whether it may go on (see ForkPage): a buffer."""

    @property
    def held(self) -> dict[tuple[int, int], Shard]:
        """By thread and shard (pure engine): see `reentry`. A dict."""

    @property
    def worker(self) -> Row:
        """Where operations are counted."""

    @property
    def shards(self) -> Iterable[Shard]:
        """The routes, by the top bits of the hash: see `routing`. A list."""

    def error_for(self, status: int, shard: Shard, data_bytes: int) -> Exception:
        """Return the exception for a status of a shard: see `messages`."""

    def look_for_files(self, due: int, version: int) -> int:
        """Look whether the map's files are there still; return the version from which on a
        write, or a read at that time, is to ask again, or NEVER. `due`: what this gave the last
        time, 0: it is the first."""


class Host(Readable, Protocol):
    """What a handle that writes is bound to."""

    @property
    def worker(self) -> Judge:
        """This process's row."""

    def reenter(self) -> None:
        """Go on in a forked child, or refuse a map that was unlinked."""

    def describe_wait(self, shard: Shard, waited_ns: int) -> str:
        """Say who holds a shard's lock: see `messages`."""

    def renew(self, handle: Any, shard: Shard, unit: int) -> None:
        """Have the process go by those shards that have the entries of one that has moved."""

    def reserve_deadlines(self, shard: Shard) -> None:
        """Reserve the pages of a shard's deadlines, before the first is set."""

    def restore_deadlines(self, shard: Shard) -> None:
        """Do that where there are deadlines whose pages nobody is sure to have reserved."""

    def start_sweeper(self) -> bool:
        """Have the map swept in the background; False: ask again at the next deadline."""
