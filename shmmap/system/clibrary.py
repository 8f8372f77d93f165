"""Functions of the C library that Python does not offer, called through ctypes."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable

NOREPLACE = 1  # RENAME_NOREPLACE
EXCHANGE = 2  # RENAME_EXCHANGE
_AT_FDCWD = -100

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
)
libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def call(function: Callable[..., int | None], *arguments: object) -> int | None:
    """Call one of them. Where there is no memory to convert what it is given, ctypes says that an
    argument is wrong; here none is."""
    try:
        return function(*arguments)
    except ctypes.ArgumentError:
        raise MemoryError from None


def rename(source: str, target: str, how: int) -> int:
    """Rename a file in one step, as NOREPLACE or EXCHANGE says; return 0 or the kernel's errno,
    which is ENOSYS where there is no such step."""
    paths = os.fsencode(source), os.fsencode(target)
    if call(libc.renameat2, _AT_FDCWD, paths[0], _AT_FDCWD, paths[1], how) == 0:
        return 0
    number = ctypes.get_errno()
    return errno.ENOSYS if number == errno.EINVAL else number


def _new_semaphore() -> bytes:
    """Return the bytes of a semaphore without tokens that processes share."""
    room = ctypes.create_string_buffer(32)  # the largest sem_t of Linux's C libraries
    libc.sem_init(room, 1, 0)
    return room.raw


NEW_SEMAPHORE = _new_semaphore() if sys.platform == "linux" else b""
