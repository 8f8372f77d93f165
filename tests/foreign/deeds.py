"""What can another user do to us, with an object of ours, a name of ours, or a process of ours?

A deed raises OSError where it is not permitted. What it takes (locks, mappings, descriptors) it
keeps until its process ends: it returns what must be kept.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import random
import resource
import signal
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shmmap.memory import geometry
from shmmap.system import worker_table

libc = ctypes.CDLL(None, use_errno=True)
_F_OFD_SETLK = 37
_F_SETLEASE = 1024
_FALLOC_PUNCH = 3  # and keep the size
_PTRACE_SEIZE = 0x4206
_FLOCK = struct.Struct("hhqqi4x")


def checked(result: int) -> int:
    """Raise what a call of C left in errno."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def opened(path: Path, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def size_of(descriptor: int) -> int:
    return os.fstat(descriptor).st_size


def overwrite(path: Path, data: Callable[[int], bytes]) -> int:
    descriptor = opened(path, os.O_RDWR)
    os.pwrite(descriptor, data(size_of(descriptor)), 0)
    return descriptor


def scribble(path: Path, seed: int) -> Any:
    """Change words of a mapping again and again, as long as this process lives."""
    descriptor = opened(path, os.O_RDWR)
    memory = mmap.mmap(descriptor, size_of(descriptor))
    rng = random.Random(seed)

    def go_on() -> None:
        while True:
            at = rng.randrange(len(memory) // 8) * 8
            memory[at : at + 8] = rng.choice(
                (bytes(8), b"\xff" * 8, rng.randbytes(8), memory[:8], bytes(7) + b"\x80"))

    threading.Thread(target=go_on, daemon=True).start()
    return memory


def words_changed(path: Path, value: bytes, share: float = 0.02) -> Any:
    """Change some words once."""
    descriptor = opened(path, os.O_RDWR)
    rng = random.Random(str(path.name))
    for at in range(0, size_of(descriptor) - 7, 8):
        if rng.random() < share:
            os.pwrite(descriptor, value, at)
    return descriptor


def record_locks(path: Path, kind: int, command: int) -> int:
    """Lock whatever can be locked: the bytes of workers, and all the rest."""
    descriptor = opened(path, os.O_RDWR if kind == fcntl.F_WRLCK else os.O_RDONLY)
    got = 0
    rows = [worker_table.row_byte(row) for row in range(geometry.WORKER_ROWS)]
    for start, length in ((0, min(rows)), *((byte, 1) for byte in rows), (max(rows) + 1, 0)):
        try:
            fcntl.fcntl(descriptor, command, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0))
            got += 1
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
    return descriptor


def flocked(path: Path, kind: int) -> int:
    descriptor = opened(path, os.O_RDONLY)
    fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    return descriptor


def leased(path: Path, kind: int) -> int:
    descriptor = opened(path, os.O_RDONLY)
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    fcntl.fcntl(descriptor, _F_SETLEASE, kind)
    return descriptor


def watched(path: Path) -> int:
    descriptor = checked(libc.inotify_init1(os.O_NONBLOCK))
    checked(libc.inotify_add_watch(descriptor, os.fsencode(path), 0xFFF))
    return descriptor


def punched(path: Path) -> int:
    descriptor = opened(path, os.O_RDWR)
    size = ctypes.c_long(size_of(descriptor))
    checked(libc.fallocate(descriptor, _FALLOC_PUNCH, ctypes.c_long(0), size))
    return descriptor


def resized(path: Path, size: Callable[[int], int]) -> int:
    descriptor = opened(path, os.O_RDWR)
    os.ftruncate(descriptor, size(size_of(descriptor)))
    return descriptor


def replaced(path: Path) -> None:
    mine = path.with_name("theirs")
    mine.write_bytes(b"x" * 5000)
    os.replace(mine, path)


# -- deeds with a file: those that change nothing by themselves come first ------------------

FILE_DEEDS: dict[str, Callable[[Path], Any]] = {
    "open to read": lambda path: opened(path, os.O_RDONLY),
    "open to write": lambda path: opened(path, os.O_RDWR),
    "F_RDLCK": lambda path: record_locks(path, fcntl.F_RDLCK, fcntl.F_SETLK),
    "F_WRLCK": lambda path: record_locks(path, fcntl.F_WRLCK, fcntl.F_SETLK),
    "OFD F_RDLCK": lambda path: record_locks(path, fcntl.F_RDLCK, _F_OFD_SETLK),
    "OFD F_WRLCK": lambda path: record_locks(path, fcntl.F_WRLCK, _F_OFD_SETLK),
    "flock shared": lambda path: flocked(path, fcntl.LOCK_SH),
    "flock exclusive": lambda path: flocked(path, fcntl.LOCK_EX),
    "lease to read": lambda path: leased(path, fcntl.F_RDLCK),
    "lease to write": lambda path: leased(path, fcntl.F_WRLCK),
    "inotify": watched,
    "extend": lambda path: resized(path, lambda size: size + 8192),
    "extend to a terabyte": lambda path: resized(path, lambda size: 1 << 40),
    "truncate to nothing": lambda path: resized(path, lambda size: 0),
    "truncate to half": lambda path: resized(path, lambda size: size // 2),
    "punch a hole": punched,
    "zeros": lambda path: overwrite(path, bytes),
    "ones": lambda path: overwrite(path, lambda size: b"\xff" * size),
    "noise": lambda path: overwrite(path, lambda size: random.Random(size).randbytes(size)),
    "some words zero": lambda path: words_changed(path, bytes(8)),
    "some words huge": lambda path: words_changed(path, b"\xff" * 7 + b"\x7f"),
    "some words one": lambda path: words_changed(path, b"\x01" + bytes(7)),
    "scribble": lambda path: scribble(path, 1),
    "chmod 0": lambda path: os.chmod(path, 0),
    "chmod 0666": lambda path: os.chmod(path, 0o666),
    "chown": lambda path: os.chown(path, os.geteuid(), -1),
    "utime": lambda path: os.utime(path, (0, 0)),
    "setxattr": lambda path: os.setxattr(path, "user.x", b"y"),
    "link": lambda path: os.link(path, path.with_name(f"link.{path.name}")),
    "rename": lambda path: os.rename(path, path.with_name("away")),
    "replace": replaced,
    "unlink": os.unlink,
}


# -- deeds with a name that nobody has -------------------------------------------------------


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def file_of(path: Path, mode: int, size: int) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.fchmod(descriptor, mode)
    os.write(descriptor, b"x" * size)
    os.close(descriptor)


NAME_DEEDS: dict[str, Callable[[Path], Any]] = {
    "an empty file": lambda path: file_of(path, 0o666, 0),
    "a file": lambda path: file_of(path, 0o666, 66_240),
    "a private file": lambda path: file_of(path, 0o600, 4096),
    "a file that nobody may open": lambda path: file_of(path, 0, 100),
    "a folder": lambda path: path.mkdir(0o777),
    "a fifo": lambda path: os.mkfifo(path, 0o666),
    "a socket": bind,
    "a link to a file of theirs": lambda path: path.symlink_to(path.with_name("precious")),
    "a link to nothing": lambda path: path.symlink_to(path.with_name("nowhere")),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a folder": lambda path: path.symlink_to("/"),
}


# -- deeds with a process, and with all of /dev/shm --------------------------------------------


def fill(path: Path) -> None:
    """Take every page that is left."""
    descriptor = os.open(path / "filler", os.O_CREAT | os.O_WRONLY)
    try:
        while True:
            os.write(descriptor, bytes(4096))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


PROCESS_DEEDS: dict[str, Callable[[int], Any]] = {
    **{f"signal {number}": lambda pid, number=number: os.kill(pid, number)
       for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGUSR1, 0)},
    "ptrace": lambda pid: checked(libc.ptrace(_PTRACE_SEIZE, pid, None, None)),
    "memory": lambda pid: os.open(f"/proc/{pid}/mem", os.O_RDWR),
    "mappings": lambda pid: Path(f"/proc/{pid}/maps").read_text(),
    "descriptors": lambda pid: os.listdir(f"/proc/{pid}/fd"),
    "folder": lambda pid: os.listdir(f"/proc/{pid}/cwd"),
    "priority": lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 19),
    "limits": lambda pid: resource.prlimit(pid, resource.RLIMIT_AS, (1, 1)),
    "processors": lambda pid: os.sched_setaffinity(pid, {0}),
}
