"""An operating system for simulated processes: names in /dev/shm, descriptors, record locks, time.

One object stands in for the modules `os`, `fcntl`, and `time` where the
engine opens maps and judges who lives. Every call that another process could notice is a step.
Record locks are the kernel's: they belong to a process, never conflict with its own, and go with
its end or when it closes any descriptor of the file.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import stat
import struct
from collections.abc import Iterator, MutableMapping
from types import SimpleNamespace
from typing import Any

import posix_ipc

from .kernel import OwnNumber
from .machine import LIVENESS, Machine, Semaphore

FIRST_PID = 100
SHM = "/dev/shm/"
CHECKER = 9  # the process that looks when all is over
_LOCK = struct.Struct("hhqqi4x")  # type, whence, start, length, pid


_inodes = itertools.count(1)


class File:
    """A file in /dev/shm, with or without a name; its locks: byte to process number."""

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.inode = next(_inodes)
        self.named = True
        self.open_locks: dict[tuple[int, int], bool] = {}  # flock: by whose descriptor, exclusive?
        self.data = bytearray()
        self.locks: dict[int, int] = {}
        self.semaphore = Semaphore()


class PerProcess(MutableMapping[Any, Any]):
    """A module's dict, of which each process has its own."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.all: dict[int, dict[Any, Any]] = {}

    @property
    def mine(self) -> dict[Any, Any]:
        return self.all.setdefault(self.system.number(), {})

    def __getitem__(self, key: Any) -> Any:
        return self.mine[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.mine[key] = value

    def __delitem__(self, key: Any) -> None:
        del self.mine[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self.mine))

    def __len__(self) -> int:
        return len(self.mine)

    def copy(self) -> dict[Any, Any]:
        """Copy what this process has."""
        return self.mine.copy()


class System:
    """See the module. `pids` and `namespaces` hold what is not the default for a process."""

    def __init__(self, machine: Machine, processes: int) -> None:
        self.machine = machine
        self.processes = processes
        self.acting = CHECKER  # who acts while the machine does not run
        self.path = SimpleNamespace(exists=self.exists, lexists=self.exists, isdir=lambda _: True)
        self.pids: dict[int, int] = {}
        self.namespaces: dict[int, int] = {}
        self.reset()

    def reset(self) -> None:
        """Start with an empty /dev/shm and no open file."""
        self.files: dict[str, File] = {}
        self.opened: dict[tuple[int, int], File] = {}
        self.numbers = itertools.count(1)

    def __getattr__(self, name: str) -> Any:
        """Return constants and exceptions of the real modules, and nothing that does anything."""
        for module in (os, posix_ipc, fcntl):
            value = getattr(module, name, None)
            if isinstance(value, int) or (
                isinstance(value, type) and issubclass(value, BaseException)
            ):
                return value
        raise AttributeError(f"the simulated system has no {name}")

    # -- processes ----------------------------------------------------------------------

    def number(self) -> int:
        """Return the number of the process that acts."""
        worker = self.machine.current
        return self.acting if worker is None else worker.number

    def lives(self, number: int) -> bool:
        """Tell whether a process has neither ended nor died."""
        workers = self.machine.workers
        return number >= len(workers) or not workers[number].finished

    def getpid(self) -> int:
        return self.pids.get(self.number(), FIRST_PID + self.number())

    own_pid = this_process = getpid

    @property
    def OWN_NUMBER(self) -> OwnNumber:
        return OwnNumber(self.getpid)

    def geteuid(self) -> int:
        return 0

    def pid_namespace(self) -> int:
        return self.namespaces.get(self.number(), 1)

    def start_ticks(self, pid: int) -> int | None:
        """Return when a process of the caller's namespace was started."""
        self.machine.step(LIVENESS, f"start of {pid}")
        for number in (*range(self.processes), CHECKER):
            same_namespace = self.namespaces.get(number, 1) == self.pid_namespace()
            if same_namespace and self.lives(number) and (
                self.pids.get(number, FIRST_PID + number) == pid
            ):
                return 50 + 10 * number
        return None

    # -- time and chance ----------------------------------------------------------------

    def monotonic(self) -> float:
        return self.machine.now_ns / 1e9

    def sleep(self, seconds: float) -> None:
        self.machine.wait(Semaphore(), int(seconds * 1e9))

    def random_word(self) -> int:
        return next(self.numbers)

    # -- files --------------------------------------------------------------------------

    def _enter(self, file: File) -> int:
        descriptor = next(self.numbers)
        self.opened[self.number(), descriptor] = file
        return descriptor

    def file(self, descriptor: int) -> File:
        """Return the file that the acting process has opened under a descriptor."""
        if (self.number(), descriptor) not in self.opened:
            raise OSError(errno.EBADF, f"descriptor {descriptor} is not open")
        return self.opened[self.number(), descriptor]

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        """Open a file; return its descriptor."""
        name = path.removeprefix(SHM)
        try:
            return self._enter(self._open(name, flags, mode))
        except posix_ipc.ExistentialError:
            raise (FileExistsError if flags & os.O_EXCL else FileNotFoundError)(path) from None

    def _open(self, name: str, flags: int, mode: int) -> File:
        self.machine.step(LIVENESS, f"open {name}")
        exclusive = flags & os.O_EXCL
        if name in self.files and exclusive:
            raise posix_ipc.ExistentialError(name)
        if name not in self.files:
            if not flags & os.O_CREAT:
                raise posix_ipc.ExistentialError(name)
            self.files[name] = File(mode)
        return self.files[name]

    def open_semaphore(self, name: bytes) -> Any:
        """Return the machine's semaphore of a name; 0: there is none."""
        self.machine.step(LIVENESS, f"open {name.decode()}")
        file = self.files.get("sem." + name.decode()[1:])
        return file.semaphore if file else 0

    def unlink(self, path: str) -> None:
        self.machine.step(LIVENESS, f"unlink {path}")
        file = self.files.pop(path.removeprefix(SHM), None)
        if file is None:
            raise FileNotFoundError(path)
        file.named = False

    def publish(self, name: str, final: str) -> bool:
        """Rename a file to a name that is free, in one step: see `segment.publish`."""
        self.machine.step(LIVENESS, f"rename {name} to {final}")
        if final[1:] in self.files or name[1:] not in self.files:
            return False
        self.files[final[1:]] = self.files.pop(name[1:])
        return True

    def exchange(self, name: str, final: str) -> bool:
        """Give each of two files the other's name, in one step: see `segment.exchange`."""
        self.machine.step(LIVENESS, f"exchange {name} and {final}")
        if final[1:] not in self.files or name[1:] not in self.files:
            return False
        files = self.files
        files[final[1:]], files[name[1:]] = files[name[1:]], files[final[1:]]
        return True

    def flock(self, descriptor: int, what: int) -> None:
        """Lock a whole file by its open descriptor, which a forked child inherits."""
        self.machine.step(LIVENESS, "flock")
        file, mine = self.file(descriptor), (self.number(), descriptor)
        if what & fcntl.LOCK_UN:
            file.open_locks.pop(mine, None)
            return
        exclusive = bool(what & fcntl.LOCK_EX)
        for other, kind in file.open_locks.items():
            if other != mine and self.lives(other[0]) and (exclusive or kind):
                raise BlockingIOError(errno.EAGAIN, "locked")
        file.open_locks[mine] = exclusive

    def close(self, descriptor: int) -> None:
        """Close it: every lock of this process on that file goes."""
        self.machine.step(LIVENESS, "close")
        self.drop_locks(self.file(descriptor))
        self.file(descriptor).open_locks.pop((self.number(), descriptor), None)
        del self.opened[self.number(), descriptor]

    def drop_locks(self, file: File) -> None:
        """Take the locks of the acting process off a file."""
        me = self.number()
        file.locks = {byte: number for byte, number in file.locks.items() if number != me}

    def ftruncate(self, descriptor: int, size: int) -> None:
        self.machine.step(LIVENESS, "truncate")
        self.file(descriptor).data.extend(bytes(size))

    def posix_fallocate(self, descriptor: int, start: int, length: int) -> None:
        self.file(descriptor)

    def write(self, descriptor: int, data: bytes) -> int:
        """Write a new semaphore's bytes, which nobody reads before the map is published."""
        self.file(descriptor).data[: len(data)] = data
        return len(data)

    def pread(self, descriptor: int, length: int, start: int) -> bytes:
        self.machine.step(LIVENESS, "read")
        return bytes(self.file(descriptor).data[start : start + length])

    def fchmod(self, descriptor: int, mode: int) -> None:
        self.file(descriptor).mode = mode

    def fstat(self, descriptor: int) -> Any:
        self.machine.step(LIVENESS, "status")
        return self._status(self.file(descriptor))

    def _status(self, file: File) -> Any:
        mode = stat.S_IFREG | file.mode
        return SimpleNamespace(st_uid=0, st_mode=mode, st_size=len(file.data), st_dev=1,
                               st_ino=file.inode, st_nlink=int(file.named),
                               st_blocks=len(file.data) // 512)

    def _at(self, path: str) -> File | None:
        self.machine.step(LIVENESS, f"status of {path}")
        return self.files.get(path.removeprefix(SHM))

    def exists(self, path: str) -> bool:
        return self._at(path) is not None

    def stat(self, path: str) -> Any:
        if path + "/" == SHM:
            return SimpleNamespace(st_mode=stat.S_IFDIR | 0o1777)
        file = self._at(path)
        if file is None:
            raise FileNotFoundError(path)
        return self._status(file)

    lstat = stat

    def chmod(self, path: str, mode: int) -> None:
        self.stat(path)

    def listdir(self, path: str) -> list[str]:
        self.machine.step(LIVENESS, "list")
        return list(self.files)

    def statvfs(self, path: str) -> Any:
        return SimpleNamespace(f_bavail=1 << 30, f_frsize=1, f_files=0, f_favail=0)

    # -- record locks -------------------------------------------------------------------

    def _holder(self, file: File, byte: int) -> int | None:
        """Return the live process that stands against a lock of the acting one."""
        number = file.locks.get(byte)
        if number is None or number == self.number() or not self.lives(number):
            return None
        return number

    def lockf(self, descriptor: int, what: int, length: int, byte: int) -> None:
        self.machine.step(LIVENESS, f"lock {byte}")
        file = self.file(descriptor)
        if what == fcntl.LOCK_UN:
            if file.locks.get(byte) == self.number():
                del file.locks[byte]
        elif self._holder(file, byte) is not None:
            raise BlockingIOError(errno.EAGAIN, "locked")
        else:
            file.locks[byte] = self.number()

    def fcntl(self, descriptor: int, what: int, ask: bytes) -> bytes:
        """Tell who stands against a lock (F_GETLK)."""
        assert what == fcntl.F_GETLK
        kind, whence, byte, length, _ = _LOCK.unpack(ask)
        self.machine.step(LIVENESS, f"ask for lock {byte}")
        holder = self._holder(self.file(descriptor), byte)
        if holder is None:
            return _LOCK.pack(fcntl.F_UNLCK, whence, byte, length, 0)
        return _LOCK.pack(kind, whence, byte, length, self.pids.get(holder, FIRST_PID + holder))
