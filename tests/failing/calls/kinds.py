"""Which system calls can fail, what each is about, and with which errno.

A *site* is one call of one scenario: the call's name (with fcntl's command), the thing that it
is about, and which of those it is. Things have names without numbers and nonces, so that the
same site is found again in the next run.

Left out, since the kernel cannot refuse them as they are made here, or since refusing them says
nothing about this library: close and munmap of what is whole, the unlocking of just what was
locked, wakes of futexes, ESRCH of a process that lives, kill of a child, the allocator's madvise,
isatty's ioctl, the C library's removal of the name that it makes a semaphore under. The files of
Python's own modules cannot be opened where no file can, but are not let fail alone.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from typing import NamedTuple

from .injector import NUMBERS, Call

_LOCK_COMMANDS = {5: "F_GETLK", 6: "F_SETLK", 7: "F_SETLKW"}
_COMMANDS = {1: "F_GETFD", 2: "F_SETFD", 3: "F_GETFL", 1030: "F_DUPFD_CLOEXEC", **_LOCK_COMMANDS}
_ANONYMOUS, _NORESERVE, _STACK = 0x20, 0x4000, 0x20000
_WIPE_ON_FORK = 18
_EMPTY_PATH = 0x1000
_WRITES = os.O_WRONLY | os.O_RDWR
_BY_PATH = {  # which argument is the path; of two, the new name
    "openat": 1, "newfstatat": 1, "statx": 1, "unlinkat": 1, "readlinkat": 1, "fchmodat": 1,
    "faccessat": 1, "faccessat2": 1, "open": 0, "stat": 0, "lstat": 0, "unlink": 0, "chmod": 0,
    "statfs": 0, "access": 0, "readlink": 0, "creat": 0, "chown": 0, "rename": 1, "link": 1,
    "renameat": 3, "renameat2": 3, "linkat": 3,
}
_IN_FOLDER = ("openat", "newfstatat", "statx", "unlinkat", "readlinkat", "fchmodat", "faccessat",
              "faccessat2", "renameat", "renameat2", "linkat")
_HERE = 0xFFFFFF9C  # AT_FDCWD
_BY_DESCRIPTOR = (
    "read", "write", "pread64", "pwrite64", "fstat", "fstatfs", "ftruncate", "fallocate", "fchmod",
    "fchown", "fsync", "fdatasync", "getdents64", "flock", "fcntl",
)
MODULE = "Python's module"
_THINGS = (
    (r"/dev/shm/?", "/dev/shm"),
    (r"/dev/shm/shmmap\.\d+\.creators.*", "creators' file"),
    (r"/dev/shm/sem\.[^.]{6}", "semaphore in the making"),
    (r"/dev/shm/sem\..*", "semaphore"),
    (r"/dev/shm/shmmap\.[^.]+\.[0-9a-f]+\.live", "liveness file"),
    (r"/dev/shm/shmmap\.[^.]+\.[0-9a-f]+\.locks", "lock shard"),
    (r"/dev/shm/shmmap\.[^.]+\.[0-9a-f]+\..*", "shard"),
    (r"/dev/shm/shmmap\.[^.]+(\.v\d+[cp])?(\.new[0-9a-f]*)?", "control segment"),
    (r"/dev/shm/.*", "other file in /dev/shm"),
    (r"/proc/sys/kernel/random/boot_id", "boot_id"),
    (r"/proc/(self|\d+)/(task/\d+/)?(stat|status|mounts|cmdline|comm|exe|ns/pid|stat[a-z]*)", None),
    (r"/proc/(self|\d+)/fd(/.*)?", "/proc/PID/fd"),
    (r"/proc/.*", "/proc"),
    (r".*/failing-calls-[^/]*/\.[^/]*", "dump, in the making"),
    (r".*/failing-calls-[^/]*/.+", "dump"),
    (r".*/failing-calls-[^/]*", "dump's directory"),
    (r".*\.(py|pyc|so)", MODULE),
)
_OBJECTS = ("control segment", "shard", "lock shard", "liveness file", "semaphore")
_IN_SHM = (
    *_OBJECTS, "semaphore in the making", "creators' file", "/dev/shm", "other file in /dev/shm",
)
# the likeliest first: what the short run takes
_DESCRIPTORS = ("EMFILE", "ENFILE")
_FORBIDDEN = ("EACCES", "EPERM")
ERRNOS = {
    "mmap": ("ENOMEM", "EAGAIN"), "mremap": ("ENOMEM",), "mprotect": ("ENOMEM", "EACCES"),
    "madvise": ("EINVAL", "ENOMEM", "EAGAIN"), "getrandom": ("ENOSYS", "EINTR", "EAGAIN"),
    "clone": ("EAGAIN", "ENOMEM", "EPERM"), "clone3": ("EAGAIN", "ENOMEM", "EPERM"),
    "futex": ("EINTR", "EAGAIN", "ETIMEDOUT"), "clock_nanosleep": ("EINTR",),
    "read": ("EIO", "EINTR", "ENOMEM"), "pread64": ("EIO", "EINTR", "ENOMEM"),
    "write": ("ENOSPC", "EDQUOT", "EIO", "EFBIG", "EINTR"),
    "pwrite64": ("ENOSPC", "EIO", "EPERM", "EINTR"),
    "fstat": ("ENOMEM",), "ftruncate": ("EFBIG", "EINTR", "EIO", "EPERM", "EINVAL"),
    "fallocate": ("ENOSPC", "EFBIG", "EINTR", "EIO", "EPERM", "EOPNOTSUPP", "ENOSYS"),
    "fchmod": ("EPERM", "EIO", "EROFS"), "chmod": ("EPERM", "EACCES", "EROFS", "ENOMEM"),
    "fsync": ("EIO", "ENOSPC", "EDQUOT"), "fdatasync": ("EIO", "ENOSPC", "EDQUOT"),
    "statfs": ("EACCES", "EIO", "ENOMEM", "ENOENT"), "fstatfs": ("EIO", "ENOMEM"),
    "getdents64": ("EIO", "ENOENT"), "readlink": ("EACCES", "ENOENT", "EIO", "ENOMEM"),
    "access": ("EACCES", "EROFS", "ENOMEM", "EIO"),
    "unlink": ("EACCES", "EPERM", "EBUSY", "EROFS", "EIO", "ENOMEM"),
    "rename": ("EACCES", "EPERM", "EXDEV", "EIO", "ENOSPC", "EROFS", "EDQUOT", "EBUSY"),
    "renameat2": ("EINVAL", "ENOSYS", "EACCES", "EPERM", "EIO", "ENOSPC", "EEXIST"),
    "link": ("ENOSPC", "EACCES", "EPERM", "EEXIST", "EIO", "EMLINK", "ENOMEM", "EROFS", "EDQUOT"),
    "setresuid": ("EPERM", "EAGAIN"), "pipe2": _DESCRIPTORS, "dup": ("EMFILE",),
    "flock": ("ENOLCK", "EINTR", "EAGAIN"),
    "fcntl F_GETLK": ("ENOLCK", "EACCES"), "fcntl F_SETLK": ("ENOLCK", "EAGAIN", "EACCES", "EINTR"),
    "fcntl F_SETLKW": ("ENOLCK", "EINTR", "EDEADLK"),
    "fcntl F_DUPFD_CLOEXEC": ("EMFILE",),
}
_SAME = {
    "open": "openat", "creat": "openat", "unlinkat": "unlink", "renameat": "rename",
    "linkat": "link", "readlinkat": "readlink", "fchmodat": "chmod", "faccessat": "access",
    "faccessat2": "access", "newfstatat": "stat", "statx": "stat", "lstat": "stat",
    "fork": "clone", "vfork": "clone",
}
# Conditions of the whole system: true of every such call from then on.
LASTING = {"EMFILE", "ENFILE", "ENOMEM", "ENOSPC", "ENOLCK", "EROFS", "EACCES", "ENOENT", "ENOSYS"}


class Site(NamedTuple):
    """One call of a scenario: see the module. `which` counts from 1."""

    call: str
    thing: str
    which: int

    def __str__(self) -> str:
        return f"{self.call} of {self.thing}, the {self.which}."


class Seen(NamedTuple):
    """What a call is: its name, its thing, and the names of the errnos that it can have."""

    call: str
    thing: str
    errnos: tuple[str, ...]


def _text_at(pid: int, address: int) -> str:
    """Read a path out of a process's memory."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        room = 4096 - address % 4096
        data = os.pread(memory.fileno(), room, address)
        if b"\0" not in data:
            data += os.pread(memory.fileno(), 4096, address + room)
    return os.fsdecode(data.partition(b"\0")[0])


def _path_of(call: Call) -> str:
    """Return the path that a call is about, whole: it may be relative to an open folder."""
    which = _BY_PATH[call.name]
    path = _text_at(call.pid, call.arguments[which])
    if not path or path.startswith("/"):
        return path
    folder = "cwd"
    if call.name in _IN_FOLDER and call.arguments[which - 1] & 0xFFFFFFFF != _HERE:
        folder = f"fd/{call.arguments[which - 1] & 0xFFFFFFFF}"
    with suppress(OSError):
        return os.path.join(os.readlink(f"/proc/{call.pid}/{folder}"), path)
    return path


def _number_at(pid: int, address: int, size: int) -> int:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        return int.from_bytes(os.pread(memory.fileno(), size, address), "little")


def thing_of(path: str) -> str:
    """Name what a path stands for; "": nothing of this library's."""
    for pattern, name in _THINGS:
        found = re.fullmatch(pattern, path.removesuffix(" (deleted)"))
        if found:
            return name or f"/proc/PID/{found[3]}"
    return ""


def _descriptor_of(call: Call) -> str:
    with suppress(OSError):
        return thing_of(os.readlink(f"/proc/{call.pid}/fd/{call.arguments[0] & 0xFFFFFFFF}"))
    return ""


def _lock_name(call: Call) -> str:
    command = call.arguments[1]
    name = f"fcntl {_COMMANDS.get(command, command)}"
    if command in (6, 7) and _number_at(call.pid, call.arguments[2], 2) == 2:
        name += ", unlock"
    return name


def _memory_of(call: Call) -> str:
    """Name what memory is asked for."""
    _, size, _, flags, descriptor, _ = call.arguments
    if not flags & _ANONYMOUS:
        with suppress(OSError):
            return thing_of(os.readlink(f"/proc/{call.pid}/fd/{descriptor & 0xFFFFFFFF}"))
        return ""
    if flags & _STACK:
        return "thread's stack"
    if flags & _NORESERVE:
        return "snapshot's copy"
    return "page" if size == 4096 else "heap"


def _open_errnos(thing: str, flags: int) -> tuple[str, ...]:
    """List how an open can fail. ENOENT only where the thing may be missing: what is there and
    seems not to be is a kernel that lies."""
    found = ["EMFILE", "EACCES", "ENOMEM", "ENFILE", "EPERM", "EINTR"]
    if flags & os.O_CREAT:
        found[1:1] = ["ENOSPC", "EROFS", "EDQUOT"]
    elif flags & _WRITES:
        found.append("EROFS")
    if flags & os.O_EXCL:
        found.append("EEXIST")
    if flags & os.O_NOFOLLOW or thing in _IN_SHM:
        found.append("ELOOP")
    if thing not in _OBJECTS or flags & os.O_CREAT:
        found.append("ENOENT")
    return tuple(found)


def see(call: Call) -> Seen | None:
    """Say what a call is; None: it is not one to fail."""
    name, arguments = call.name, call.arguments
    if name == "fcntl":
        name, thing = _lock_name(call), _descriptor_of(call)
    elif name in ("mmap", "mremap", "mprotect"):
        thing = _memory_of(call) if name == "mmap" else "heap"
    elif name == "madvise":
        thing = "page" if arguments[2] == _WIPE_ON_FORK else ""
    elif name in ("clone", "clone3", "fork", "vfork"):
        flags = _number_at(call.pid, arguments[0], 8) if name == "clone3" else arguments[0]
        thing = "thread" if flags & 0x10000 and name.startswith("clone") else "process"
    elif name == "futex":
        thing = "wait" if arguments[1] & 0x7F in (0, 9) else ""
        if not arguments[3]:
            return Seen(name, thing, ("EINTR", "EAGAIN")) if thing else None
    elif name in ("getrandom", "clock_nanosleep", "setresuid", "pipe2", "dup"):
        thing = {"getrandom": "random bytes", "clock_nanosleep": "sleep"}.get(name, "process")
    elif name in _BY_PATH:
        path = _path_of(call)
        if not path and name in ("newfstatat", "statx"):
            name, thing = "fstat", _descriptor_of(call)
        else:
            thing = thing_of(path)
    elif name in _BY_DESCRIPTOR:
        thing = _descriptor_of(call)
    else:
        thing = ""
    if not thing:
        return None
    name = _SAME.get(name, name)
    if thing == MODULE:
        return Seen(name, thing, (*_DESCRIPTORS, "ENOMEM")) if name == "openat" else None
    if name == "unlink" and thing == "semaphore in the making":
        return None
    if name == "openat":
        at = {"openat": 2, "open": 1}.get(call.name)
        flags = arguments[at] if at else os.O_CREAT | _WRITES
        return Seen(name, thing, _open_errnos(thing, flags))
    if name == "stat":
        known = ("EACCES", "ENOMEM", "ELOOP")
        is_there = thing in (*_OBJECTS, "dump, in the making")
        return Seen(name, thing, known if is_there else (*known, "ENOENT"))
    errnos = ERRNOS.get(name, ())
    if name == "getdents64" and not thing.startswith("/proc"):
        errnos = ("EIO",)  # ENOENT: the folder was removed, and the C library finds it empty
    if name == "mmap" and thing in _IN_SHM:
        errnos += ("EPERM", "ENODEV", "EACCES", "ENFILE")
    return Seen(name, thing, errnos) if errnos else None


def may_last(site: Site, error: str) -> bool:
    """Tell whether all such calls may fail so from then on. A record lock's EACCES says that
    somebody else has it: whoever waits for that waits. That one file is not there says nothing of
    the next one."""
    return error in LASTING and not (
        (error == "EACCES" and site.call.startswith("fcntl"))
        or (error == "ENOENT" and site.call == "stat")
    )


def raw_names(name: str) -> tuple[str, ...]:
    """List the system calls that a site of this name can be."""
    name = name.split()[0]
    found = {name, *(raw for raw, shown in _SAME.items() if shown == name)}
    if name == "fstat":
        found |= {"newfstatat", "statx"}
    return tuple(sorted(found & set(NUMBERS)))


def number_of(name: str) -> int:
    """Return an errno by its name."""
    return int(getattr(errno, name))
