"""Stop a process at each of its system calls, and let it fail or go on.

By seccomp's user notification: the kernel hands each call of the filtered kinds to a
supervisor, which answers with an errno or has the kernel carry it out. That sees every call,
also those that the C library makes inside itself (shm_open, sem_open, pthread_create), where
a preloaded library would miss them; and it needs no other program.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

NUMBERS = {  # of x86-64
    "read": 0, "write": 1, "open": 2, "stat": 4, "fstat": 5, "lstat": 6, "mmap": 9, "mprotect": 10,
    "munmap": 11, "ioctl": 16, "pread64": 17, "pwrite64": 18, "access": 21, "mremap": 25,
    "madvise": 28, "dup": 32, "clone": 56, "fork": 57, "vfork": 58, "kill": 62, "fcntl": 72,
    "flock": 73, "fsync": 74, "fdatasync": 75, "ftruncate": 77, "rename": 82, "creat": 85,
    "link": 86, "unlink": 87, "readlink": 89, "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93,
    "setresuid": 117, "statfs": 137, "fstatfs": 138, "futex": 202, "getdents64": 217,
    "clock_nanosleep": 230, "openat": 257, "newfstatat": 262, "unlinkat": 263, "renameat": 264,
    "linkat": 265, "readlinkat": 267, "fchmodat": 268, "faccessat": 269, "fallocate": 285,
    "pipe2": 293, "renameat2": 316, "getrandom": 318, "statx": 332, "clone3": 435,
    "faccessat2": 439,
}
NAMES = {number: name for name, number in NUMBERS.items()}
MARK = 0x53484D4D  # creat of what is there is a mark of the subject's, not a call to fail

_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER = 317, 1, 1 << 3
_PR_SET_NO_NEW_PRIVS = 38
_ARCH_X86_64 = 0xC000003E
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_RECEIVE, _ANSWER = 0xC0502100, 0xC0182101
_CONTINUE = 1
_NOTICE = struct.Struct("=QIIiIQ6Q")  # id, pid, flags, number, architecture, pointer, arguments
_REPLY = struct.Struct("=QqiI")  # id, value, error, flags
_libc = ctypes.CDLL(None, use_errno=True)


class Call(NamedTuple):
    """A system call that a process is about to make, and waits with."""

    id: int
    pid: int  # of the thread
    name: str
    arguments: tuple[int, ...]


def _program(names: Iterable[str]) -> bytes:
    """Write the filter: notify for these calls and for marks, allow all others."""
    wanted = [NUMBERS[name] for name in sorted({"creat", *names})]
    lines = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _ARCH_X86_64), (_RETURN, 0, 0, _ALLOW)]
    lines.append((_LOAD, 0, 0, 0))
    lines += [(_EQUAL, len(wanted) - at, 0, number) for at, number in enumerate(wanted)]
    lines += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _NOTIFY)]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def watch_me(names: Iterable[str] = tuple(NUMBERS)) -> int:
    """Have every later call of these kinds of this thread, and of the threads and processes
    that it starts, handed to whoever reads the descriptor that this returns."""
    code = _program(names)
    buffer = ctypes.create_string_buffer(code)
    head = struct.pack("=HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    found: int = _libc.syscall(_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, head)
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")
    return found


def mark(number: int) -> None:
    """Tell the supervisor something: it sees a call that nobody else makes."""
    _libc.syscall(NUMBERS["creat"], ctypes.c_void_p(MARK), number)


def receive(listener: int) -> Call | None:
    """Take the next call that waits; None: it was interrupted meanwhile."""
    buffer = bytearray(_NOTICE.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, buffer)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    number, pid, _, nr, _, _, *arguments = _NOTICE.unpack(buffer)
    return Call(number, pid, NAMES[nr], tuple(arguments))


def answer(listener: int, call: Call, error: int = 0) -> None:
    """Let a call fail with an errno; 0: have it carried out."""
    reply = bytearray(_REPLY.pack(call.id, 0, -error, 0 if error else _CONTINUE))
    try:
        fcntl.ioctl(listener, _ANSWER, reply)
    except OSError as problem:
        if problem.errno != errno.ENOENT:  # its process was killed, or a signal broke it off
            raise


@cache
def refusal() -> str:
    """Say why calls cannot be watched here; "": they can."""
    if platform.machine() != "x86_64":
        return f"the numbers of system calls are known for x86-64, not for {platform.machine()}"
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.close(watch_me(("creat",)))
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return "" if status == 0 else "seccomp's user notification is not permitted here"
