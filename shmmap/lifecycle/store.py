"""Where the segments of a map are found: files in /dev/shm, for all processes. A map of one process
has a store of its own: see `testing.local_maps`."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import ConfigMismatch, SharedMemoryFull
from ..system import reserving, segment
from ..system.creation import creation_lock
from .reaping import reap

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ..system.creation import Turn
    from ..system.segment import Mapping


class Store:
    """What is done with the segments of a map by their names, beside making and opening the map."""

    def turn(self, name: str) -> AbstractContextManager[Turn]:
        """Keep all others from making, unlinking or reshaping the map of a name."""
        return creation_lock(name)

    def create(self, label: str, size: int, reserve: int, mode: int) -> Mapping:
        """See `segment.create`."""
        return segment.create(label, size, reserve, mode)

    def create_semaphore(self, label: str, mode: int) -> None:
        """Make a shard's semaphore, unless there is one."""
        with suppress(FileExistsError):
            segment.create_semaphore(label, mode)

    def refuse_taken(self, label: str) -> None:
        """Refuse the name of a segment that is to be, if another user has put something there, or
        where its semaphore will be: all would go to that, and refuse it.

        Raises:
            ConfigMismatch: that is so.
            SystemCallError: the names cannot be looked at.
        """
        for file in (label, segment.semaphore_file(label)):
            found = segment.status_at(file)
            if found is not None and (
                found.st_uid != os.geteuid() or not stat.S_ISREG(found.st_mode)
            ):
                raise ConfigMismatch(
                    f"{segment.SHM_DIRECTORY}{file} is in the way: uid {found.st_uid} has put it "
                    "where a new shard of the map will be, and it is not used. Nothing is lost. "
                    "Look at what it is (ls -l), have that user or root remove it, and resize again"
                )

    def attach(self, label: str, size: int, mode: int | None, owner_uid: int | None) -> Mapping:
        """See `segment.attach`. MapNotFound: there is none."""
        return segment.attach(label, size, mode, owner_uid)

    def exists(self, label: str) -> bool:
        """Tell whether there is a segment of a name."""
        return segment.identity_at(label) is not None

    def rename(self, label: str, final: str) -> None:
        """Give a segment another name; do nothing where it is not there."""
        with suppress(FileNotFoundError):
            try:
                os.rename(segment.SHM_DIRECTORY + label, segment.SHM_DIRECTORY + final)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise segment.refused(f"renaming {label}", error) from error

    def remove(self, file: str) -> None:
        """Remove a segment, or a semaphore's file. Idempotent."""
        segment.unlink(file)

    def list(self) -> list[str]:
        """List the files, of other maps too; OSError: that cannot be."""
        return os.listdir(segment.SHM_DIRECTORY)

    def reserve(self, label: str, mapping: Mapping, start: int, end: int) -> None:
        """See `reserving.reserve`."""
        reserving.reserve(label, mapping, start, end)

    def check_room(self, what: str, size: int, name: str) -> None:
        """Refuse what has no room, though ephemeral maps whose time is over were removed."""
        try:
            segment.check_room(what, size)
        except SharedMemoryFull:
            if not reap(name):
                raise
            segment.check_room(what, size)


SHARED = Store()
