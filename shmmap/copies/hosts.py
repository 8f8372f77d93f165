"""What copies of a map ask of it: for mypy only, as `locks.hosts`. `ShmMap` lies above."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..checks import Key, Value
    from ..lifecycle.attachment import Attachment
    from ..shard._shard_cy import Shard
    from .snapshots import Snapshot


class OpenMap(Protocol):
    """An open map: see `ShmMap`."""

    name: str
    closed: bool
    _lock_timeout: float

    @property
    def _live(self) -> Attachment:
        """The attachment; MapClosed where there is none any more."""

    def _settled(self) -> list[Shard]:
        """List the map's shards, each once, in the order of the hash."""

    def delete(self, key: Key) -> bool:
        """See ShmMap."""

    def snapshot(self) -> Snapshot:
        """Copy all entries as they are at one instant."""

    def unlink(self) -> None:
        """See ShmMap."""

    def close(self) -> None:
        """See ShmMap."""


class MapClass(Protocol):
    """`ShmMap`, or a subclass."""

    def attach(self, *place: Value, **named: Value) -> OpenMap:
        """Open a map that exists."""

    def create(self, *place: Value, **named: Value) -> OpenMap:
        """Make one."""
