"""Backing a part of a segment by real pages when it is used first: what does not fit is an error
then, and no SIGBUS later."""

from __future__ import annotations

import errno
import os

from ..errors import ConfigMismatch
from . import segment


def reserve(name: str, mapping: segment.Mapping, start: int, end: int) -> None:
    """Back the bytes from `start` to `end`, the last of a segment, by real pages.

    Raises:
        SharedMemoryFull: there is no room.
        MapCorrupted: it is shorter; reserving would stretch it again, and hide what was lost.
    """
    try:
        actual = os.stat(segment.SHM_DIRECTORY + name).st_size
    except OSError:
        actual = end  # it cannot be looked at, or seen here; the mapping can be used all the same
    if actual < end:
        raise segment.wrong_size(name, actual, end)
    number = mapping.populate(start, end)
    if number in (errno.EINVAL, errno.ENOSYS):  # a kernel before 5.14
        number = _reserve_by_name(name, start, end)
    if number in (errno.EFAULT, errno.ENOSPC, errno.EDQUOT):
        raise segment.no_room(f"the deadlines of {name}", end - start)
    if number:
        error = OSError(number, os.strerror(number))
        raise segment.refused(f"reserving the deadlines of {name}", error)


def _reserve_by_name(name: str, start: int, end: int) -> int:
    try:
        found = os.open(segment.SHM_DIRECTORY + name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.posix_fallocate(found, start, end - start)
        finally:
            os.close(found)
    except PermissionError as error:
        raise ConfigMismatch(
            f"{name} may not be opened any more, as its first ttl needs on a kernel before 5.14: "
            "this process has changed its user since it opened the map. Make the map with a "
            "default ttl=, or open it after that"
        ) from error
    except OSError as error:
        return error.errno or errno.EIO
    return 0
