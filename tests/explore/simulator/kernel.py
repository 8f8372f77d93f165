"""What the simulated processes ask the kernel: record locks, who lives, who I am.

Stands in for the module `os` and the liveness file where the engine asks who lives. Record locks
are as the kernel has them: they belong to a process, never conflict with its own, are dropped at
its death and when it closes any descriptor of the file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .machine import LIVENESS, Machine

FIRST_PID = 100


class OwnNumber:
    """The word of `process` that says which process reads it."""

    def __init__(self, number: Callable[[], int]) -> None:
        self._number = number

    def __getitem__(self, at: int) -> int:
        return self._number()


class Kernel:
    """Processes, one a worker of the machine, and the record locks on one file."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.locks: dict[int, int] = {}  # byte: pid
        self.ticks: dict[int, int] = {}  # pid: when it started
        self.acting = 0  # who acts while the machine does not run
        self.homes: tuple[int, ...] = ()  # the process of each worker, if not one each

    # -- as `os`
    def getpid(self) -> int:
        worker = self.machine.current
        return self.acting if worker is None else FIRST_PID + self._home(worker.number)

    own_pid = this_process = getpid

    @property
    def OWN_NUMBER(self) -> OwnNumber:
        return OwnNumber(self.getpid)

    def _home(self, number: int) -> int:
        return self.homes[number] if self.homes else number

    def close(self, descriptor: int) -> None:
        """Close a descriptor of the file: every lock of this process goes."""
        mine = self.getpid()
        self.locks = {byte: pid for byte, pid in self.locks.items() if pid != mine}

    # -- as `worker_table`
    def start_ticks(self, pid: int) -> int | None:
        self.machine.step(LIVENESS, "process")
        return self.ticks.get(pid) if self.lives(pid) else None

    def pid_namespace(self) -> int:
        return 1

    # -- as a lock file
    def try_lock(self, byte: int) -> bool:
        self.machine.step(LIVENESS, "lock")
        if self._holder(byte) not in (None, self.getpid()):
            return False
        self.locks[byte] = self.getpid()
        return True

    def unlock(self, byte: int) -> None:
        self.machine.step(LIVENESS, "lock")
        if self.locks.get(byte) == self.getpid():
            del self.locks[byte]

    def holder(self, byte: int) -> int | None:
        """Return who would stand against a lock: never the process that asks."""
        self.machine.step(LIVENESS, "lock")
        holder = self._holder(byte)
        return None if holder == self.getpid() else holder

    def _holder(self, byte: int) -> int | None:
        pid = self.locks.get(byte)
        return pid if pid is not None and self.lives(pid) else None

    def lives(self, pid: int) -> bool:
        """Tell whether a process exists."""
        if pid not in self.ticks:
            return False
        number = pid - FIRST_PID
        workers: list[Any] = self.machine.workers
        mine = [worker for worker in workers if self._home(worker.number) == number]
        return not mine or not all(worker.dead for worker in mine)
