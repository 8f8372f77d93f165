"""A Python that takes itself for macOS's, as far as this package can tell. There is no Mac among
the machines of the tests; this stands for one, and is no proof of it.

`pretend()`, before `shmmap` is imported, takes away what macOS does not have, or has under other
numbers: files of /proc and /dev/shm; functions of the C library, of `os` and of `posix`; flags of
mmap, advice of madvise, clocks and pages as they are on an arm64 Mac; posix_ipc, which is not
installed there. What is asked for in Linux's numbers is refused, as macOS would, or worse.
"""

from __future__ import annotations

import builtins
import ctypes
import errno
import fcntl
import importlib.abc
import io
import mmap
import os
import posix
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

_FUNCTIONS = (  # of os and posix, that macOS's Python does not have
    "copy_file_range", "eventfd", "getrandom", "memfd_create", "pidfd_open", "posix_fadvise",
    "posix_fallocate", "sched_getaffinity", "sched_setaffinity", "setns", "unshare", "splice",
    "getresuid", "getxattr", "sched_setscheduler",
)  # fmt: skip
_LINUX_LIBC = {
    "renameat2", "memfd_create", "sem_timedwait", "sem_clockwait", "prctl", "unshare", "setns",
    "gettid", "syscall", "eventfd", "fallocate", "posix_fallocate", "fstatfs",
}  # fmt: skip
_MAC_FLAGS = {"MAP_SHARED": 1, "MAP_PRIVATE": 2, "MAP_FIXED": 0x10, "MAP_ANONYMOUS": 0x1000}
_MAC_ADVICE = range(12)
_MAC_CLOCKS = {0: time.CLOCK_REALTIME, 6: time.CLOCK_BOOTTIME, 4: time.CLOCK_MONOTONIC_RAW,
               12: time.CLOCK_PROCESS_CPUTIME_ID, 16: time.CLOCK_THREAD_CPUTIME_ID}  # fmt: skip
_MAC_PAGE = 16384
_real_mmap, _real_cdll, _real_clock_ns = mmap.mmap, ctypes.CDLL, time.clock_gettime_ns


def is_hidden(path: object) -> bool:
    """Tell whether a path is one that a Mac does not have."""
    if isinstance(path, (str, bytes, os.PathLike)):
        name = os.fsdecode(path)
        return name.startswith(("/proc/", "/dev/shm/")) or name in ("/proc", "/dev/shm")
    return False


def _blind(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have a function find none of those."""
    def look(path: Any = ".", *arguments: Any, **named: Any) -> Any:
        if is_hidden(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return function(path, *arguments, **named)

    return look


class _File(io.FileIO):
    def __init__(self, file: Any, *arguments: Any, **named: Any) -> None:
        if is_hidden(file):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), file)
        super().__init__(file, *arguments, **named)


class _Map(_real_mmap):
    """Takes flags as macOS numbers them, and refuses advice that it does not know."""

    def __new__(cls, number: int, length: int, flags: int = 1, *more: Any, **named: Any) -> Any:
        if flags & ~sum(_MAC_FLAGS.values()):
            raise OSError(errno.EINVAL, f"flags {flags:#x}")
        own = flags & ~0x1000 | (0x20 if flags & 0x1000 else 0)
        return super().__new__(cls, number, length, own, *more, **named)

    def madvise(self, option: int, *place: int) -> None:
        if option not in _MAC_ADVICE:
            raise OSError(errno.EINVAL, f"advice {option}")
        super().madvise(option, *place)


class _Library:
    """A C library without what only Linux's have, and whose semaphores need names."""

    def __init__(self, name: str | None, *arguments: Any, **named: Any) -> None:
        self._library = _real_cdll(name, *arguments, **named)

    def __getattr__(self, function: str) -> Any:
        if function in _LINUX_LIBC:
            raise AttributeError(f"dlsym(RTLD_DEFAULT, {function}): symbol not found")
        if function == "sem_init":
            return lambda *arguments: -1
        return getattr(self._library, function)


class _NoModule(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "posix_ipc":
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def _clock_ns(clock: int) -> int:
    if clock not in _MAC_CLOCKS:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return _real_clock_ns(_MAC_CLOCKS[clock])


def _remove(module: Any, *names: str) -> None:
    for name in names:
        if hasattr(module, name):
            delattr(module, name)


def pretend() -> None:
    """Be a Mac from now on. Modules that have looked before, of the standard library, go on."""
    import multiprocessing.util  # noqa: F401  # what is imported later may ask what we take away
    import sysconfig
    import tempfile

    import numpy  # noqa: F401
    import xxhash  # noqa: F401

    sysconfig.get_config_vars()
    tempfile._O_TMPFILE_WORKS = False  # type: ignore[attr-defined]
    sys.platform = "darwin"
    uname = type(os.uname())(("Darwin", "mac", "23.0.0", "Darwin Kernel", "arm64"))
    for module in (os, posix):
        module.uname = lambda: uname  # type: ignore[attr-defined]
        _remove(module, *_FUNCTIONS, "O_PATH", "O_TMPFILE", "O_DIRECT", "O_LARGEFILE", "O_RSYNC")
        for name in ("open", "stat", "lstat", "listdir", "scandir", "statvfs", "readlink",
                     "unlink", "remove", "mkdir", "rename", "replace", "access", "chmod"):
            setattr(module, name, _blind(getattr(module, name)))
    builtins.open = _blind(builtins.open)  # type: ignore[assignment]
    io.FileIO = _File  # type: ignore[misc]
    _remove(fcntl, *(name for name in dir(fcntl) if name.startswith(("F_OFD_", "F_SEAL", "F_ADD"))))
    _remove(resource, "prlimit", "RLIMIT_OFILE", "RLIMIT_SIGPENDING")
    _remove(mmap, *(name for name in dir(mmap) if name.startswith("MAP_")))
    _remove(mmap, *(name for name in dir(mmap) if name.startswith("MADV_")))
    for name, flag in _MAC_FLAGS.items():
        setattr(mmap, name, flag)
    mmap.MADV_DONTNEED = 4  # type: ignore[misc]
    mmap.mmap, mmap.PAGESIZE = _Map, _MAC_PAGE  # type: ignore[misc]
    ctypes.CDLL = _Library  # type: ignore[misc, assignment]
    time.clock_gettime_ns = _clock_ns
    time.clock_gettime = lambda clock: _clock_ns(clock) / 1e9
    _remove(time, *(name for name in dir(time) if name.startswith("CLOCK_")))
    for name, number in (("REALTIME", 0), ("MONOTONIC", 6), ("MONOTONIC_RAW", 4),
                         ("UPTIME_RAW", 8), ("PROCESS_CPUTIME_ID", 12), ("THREAD_CPUTIME_ID", 16)):
        setattr(time, f"CLOCK_{name}", number)
    sys.meta_path.insert(0, _NoModule())
