"""Functions of the C library that Python does not offer, called through ctypes."""

from __future__ import annotations

import ctypes
import os
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
)
libc.sem_open.restype = ctypes.c_void_p
libc.sem_close.argtypes = (ctypes.c_void_p,)
libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def call(function: Any, *arguments: Any) -> Any:
    """Call one of them. Where there is no memory to convert what it is given, ctypes says that an
    argument is wrong; here none is."""
    try:
        return function(*arguments)
    except ctypes.ArgumentError:
        raise MemoryError from None


def make_semaphore(name: str, mode: int) -> None:
    """Make a named semaphore without tokens. posix_ipc's constructor crashes the process where
    there is no memory for what it is given.

    Raises:
        FileExistsError: there is one of that name.
    """
    made = call(libc.sem_open, os.fsencode(name), os.O_CREAT | os.O_EXCL, mode, 0)
    if not made:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    call(libc.sem_close, made)
