"""Who am I, and is that worker alive?

Every process that uses a map has a row in its worker table and a kernel record
lock on that row's byte of the liveness file. The kernel drops the lock when
the process dies, however it dies.

Record locks have two traps: they never conflict within one process, and
closing any descriptor of the file drops them all. So one descriptor a process
and map, opened here, and my own row is never asked about.

**Invariants**
 W1  a row in use whose byte is locked belongs to a live process
 W2  an incarnation is never used for two processes
**Crash**: a dead worker's row stays until someone claims or sweeps it; tokens
with its incarnation are dead by then at the latest.
**Locks**: claiming or clearing a row happens under its byte lock and the
process's mutex.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import time
from typing import Any

from . import creation, segment
from ._guard_cy import CUT
from ._words import CAS_PATIENCE_S
from .errors import MapCorrupted, MapNotFound, WorkersFull
from .layout import constants

K = constants()
_WIPE_ON_FORK = 18  # MADV_WIPEONFORK
_FOLD_PATIENCE_S = 0.2  # a process stopped in there costs others its counters, not more
_TOTALS_BYTE = 1 << 30  # guards the totals of the control segment
_SNAPSHOT_BYTE = (1 << 30) + 16  # held by whoever takes a snapshot
_CAS_BYTES = 1 << 31  # the pure engine's compare_exchange: a range for each segment
COUNTERS = (
    "HITS", "MISSES", "WRITES", "DELETES", "WAITS", "TAKEOVERS", "RETRIES", "LOCKED_READS",
    "NEAR_HITS",
)


def start_ticks(pid: int) -> int | None:
    """Give a live process's start time in clock ticks; None: dead, a zombie, or never was.

    Read from /proc rather than as psutil's create_time(): that is derived from the wall
    clock, so it moves when the clock is set, and a live owner would look dead.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def pid_namespace() -> int:
    """Identify the pid namespace of this process; 0: /proc is not there, or of another one, so
    that pids cannot be looked up in it."""
    try:
        with open("/proc/self/status", "rb") as file:
            pids = next(line for line in file if line.startswith(b"NSpid:")).split()[1:]
        return os.stat("/proc/self/ns/pid").st_ino if len(pids) == 1 else 0
    except (OSError, StopIteration):
        return 0


class ForkPage:
    """Two words that a fork wipes: `word` is 0 in a child that has not been seen yet.

    The page has MADV_WIPEONFORK, so a fork that runs no Python hook is noticed too. Every
    operation tests the second word alone: 1 go on, 0 a new process, CUT a segment was cut off.
    """

    def __init__(self) -> None:
        self.buffer = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._words = memoryview(self.buffer).cast("Q")
        self.flag_address = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer, 8))
        try:
            self.buffer.madvise(_WIPE_ON_FORK)
        except OSError:  # a kernel without it: at least forks made by Python are noticed
            os.register_at_fork(after_in_child=self.clear)

    def clear(self) -> None:
        """Forget the words."""
        self._words[0] = self._words[1] = 0

    def stop(self) -> None:
        """Have every operation find out that a segment was cut off."""
        self._words[1] = CUT

    @property
    def is_cut(self) -> bool:
        """Whether a segment was found cut off since the word was set."""
        return self._words[1] == CUT

    @property
    def word(self) -> int:
        """The word; 0 in a new process."""
        return self._words[0]

    @word.setter
    def word(self, value: int) -> None:
        self._words[0] = value
        self._words[1] = 1


class KernelGuard:
    """Exclude every other process and thread around the pure engine's compare_exchange.

    The thread lock is an RLock for one reason: a thread can ask whether it has it. A signal
    handler may raise between any two steps here, and `release` must still know what to free.
    """

    def __init__(self, descriptor: int, segment_number: int) -> None:
        self._descriptor = descriptor
        self._byte = _CAS_BYTES + (segment_number << 12)
        self._lock: Any = threading.RLock()

    def after_fork(self) -> None:
        """Leave behind a lock that a thread of the parent held."""
        self._lock = threading.RLock()

    def acquire(self, offset: int, patience_s: float = CAS_PATIENCE_S) -> bool:
        """Try to enter for `patience_s` seconds at most. Call `release` whatever comes of it."""
        deadline = time.monotonic() + patience_s
        if not self._lock.acquire(timeout=patience_s):
            return False
        byte = self._byte + (offset >> 3)
        while not creation.try_lock_byte(self._descriptor, byte):
            if time.monotonic() >= deadline:
                return False
            time.sleep(20e-6)
        return True

    def release(self, offset: int) -> None:
        """Leave, as far as this thread is inside. Idempotent."""
        if self._lock._is_owned():
            creation.unlock_byte(self._descriptor, self._byte + (offset >> 3))
            self._lock._release_save()


class Worker:
    """This process as a worker of one map: its row, its token, and the judge of others.

    `control` is the control segment's memory as 64-bit words.
    """

    def __init__(
        self, label: str, file_name: str, control: Any, rows: int, mode: int | None = None,
        owner_uid: int | None = None,
    ) -> None:
        self.label = label
        self._control = control
        self._rows = rows
        try:
            self.descriptor = segment.open_checked(file_name, mode, owner_uid)
        except MapNotFound:
            raise MapCorrupted(
                f"{label} has lost its liveness file {file_name}: if nothing uses the map, remove "
                "it with python -m shmmap unlink"
            ) from None
        self._namespace = pid_namespace()
        self.fork_page = ForkPage()
        self.row = -1
        self.incarnation = 0

    def row_offset(self, row: int) -> int:
        """Give the offset of a row in the control segment."""
        return int(K["C_BYTES_TOTAL"] + row * K["R_BYTES_TOTAL"])

    def _get(self, row: int, field: str) -> int:
        return int(self._control[(self.row_offset(row) + K[f"R_{field}"]) >> 3])

    def _set(self, row: int, field: str, value: int) -> None:
        self._control[(self.row_offset(row) + K[f"R_{field}"]) >> 3] = value

    def join(self, now_ns: int) -> None:
        """Claim a row for this process. The caller holds the process's mutex.

        Raises:
            WorkersFull: every row belongs to a live process.
        """
        self._namespace = pid_namespace()  # a forked child may be in another than its parent
        for row in range(self._rows):
            if not creation.try_lock_byte(self.descriptor, row):
                continue
            if self._process_lives(row):  # closing all its descriptors cost it its lock
                creation.unlock_byte(self.descriptor, row)
                continue
            self._fold(row)
            self.row = row
            self.incarnation = (self._get(row, "INCARNATION") + 1) & K["INCARNATION_MASK"] or 1
            self._set(row, "INCARNATION", self.incarnation)
            self._set(row, "PID", os.getpid())
            self._set(row, "PID_NAMESPACE", self._namespace)
            self._set(row, "START_TICKS", start_ticks(os.getpid()) or 0)
            self._set(row, "JOINED_NS", now_ns)
            self._set(row, "STATE", 1)
            return
        raise WorkersFull(
            f"{self.label}: all {self._rows} worker rows belong to live processes: use fewer "
            "processes, or close() the map in those that are done with it"
        )

    def publish(self) -> None:
        """Let this process's threads use the row."""
        self.fork_page.word = (
            self.row << K["TOKEN_ROW_SHIFT"] | self.incarnation << K["TOKEN_INCARNATION_SHIFT"]
        )

    def leave(self) -> None:
        """Give the row back. The caller holds the process's mutex."""
        if self.fork_page.word:
            self._fold(self.row)
            self.fork_page.clear()
            creation.unlock_byte(self.descriptor, self.row)
        os.close(self.descriptor)

    def _fold(self, row: int) -> None:
        """Add a row's counters to the totals and free it. Its byte lock is held."""
        if self._get(row, "STATE"):
            deadline = time.monotonic() + _FOLD_PATIENCE_S
            while not (held := creation.try_lock_byte(self.descriptor, _TOTALS_BYTE)):
                if time.monotonic() > deadline:
                    break
                time.sleep(0.0002)
            try:
                for field in COUNTERS:
                    if held:
                        total = K[f"C_TOTAL_{field}"] >> 3
                        summed = self._control[total] + self._get(row, field)
                        self._control[total] = summed & K["WHOLE_WORD"]  # damaged: may wrap
                    self._set(row, field, 0)
            finally:
                if held:
                    creation.unlock_byte(self.descriptor, _TOTALS_BYTE)
            self._set(row, "STATE", 0)

    def clear_dead_rows(self) -> int:
        """Free the rows of the dead; give how many. The caller holds the process's mutex."""
        freed = 0
        for row in range(self._rows):
            if row == self.row or not self._get(row, "STATE"):
                continue
            if creation.try_lock_byte(self.descriptor, row):
                if not self._process_lives(row):
                    self._fold(row)
                    freed += 1
                creation.unlock_byte(self.descriptor, row)
        return freed

    def _shares_pids(self, row: int) -> bool:
        """Tell whether the pid in a row means that process here too."""
        return self._namespace == self._get(row, "PID_NAMESPACE") != 0

    def _process_lives(self, row: int) -> bool:
        """Tell whether the process of a row that nobody locks is alive all the same."""
        if not self._get(row, "STATE") or not self._shares_pids(row):
            return False
        pid = self._get(row, "PID")
        if pid == os.getpid():
            return False
        try:
            return start_ticks(pid) == self._get(row, "START_TICKS")
        except PermissionError:  # /proc hides it, so it exists
            return True

    def is_dead(self, token: int) -> bool:
        """Judge the owner that a token names. A stopped process is alive."""
        row = token >> K["TOKEN_ROW_SHIFT"]
        incarnation = token >> K["TOKEN_INCARNATION_SHIFT"] & K["INCARNATION_MASK"]
        if row == self.row and incarnation == self.incarnation:
            return False
        if row >= self._rows or self._get(row, "INCARNATION") != incarnation:
            return not self.fork_page.is_cut  # where the table reads as zeros, who can tell
        if creation.lock_holder(self.descriptor, row) is not None:
            return False
        return not self._process_lives(row)

    def try_snapshot(self) -> bool:
        """Become the process that takes a snapshot, unless another one is at it; its death ends
        that. The caller holds a lock that keeps the other threads of this process out."""
        return creation.try_lock_byte(self.descriptor, _SNAPSHOT_BYTE)

    def end_snapshot(self) -> None:
        """Let others take a snapshot. Only after `try_snapshot` was true."""
        creation.unlock_byte(self.descriptor, _SNAPSHOT_BYTE)

    def snapshot_pid(self) -> int | None:
        """Give the pid of another process that takes a snapshot (0: of another pid namespace)."""
        return creation.lock_holder(self.descriptor, _SNAPSHOT_BYTE)

    def pid_of(self, token: int) -> tuple[int, bool]:
        """Give the pid in a token's row, and whether that is one of this pid namespace; 0: the
        row has changed hands."""
        row = token >> K["TOKEN_ROW_SHIFT"]
        incarnation = token >> K["TOKEN_INCARNATION_SHIFT"] & K["INCARNATION_MASK"]
        if row >= self._rows or self._get(row, "INCARNATION") != incarnation:
            return 0, False
        return self._get(row, "PID"), self._shares_pids(row)

    def rows_in_use(self) -> list[tuple[int, int]]:
        """List (row, pid) of the rows in use whose process lives."""
        return [
            (row, self._get(row, "PID"))
            for row in range(self._rows)
            if self._get(row, "STATE") and (
                row == self.row
                or creation.lock_holder(self.descriptor, row) is not None
                or self._process_lives(row)
            )
        ]

    def totals(self) -> dict[str, int]:
        """Sum the counters of all workers, gone and present."""
        return {
            field.lower(): int(self._control[K[f"C_TOTAL_{field}"] >> 3]) + sum(
                self._get(row, field) for row in range(self._rows) if self._get(row, "STATE")
            )
            for field in COUNTERS
        }


