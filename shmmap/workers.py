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

import contextlib
import ctypes
import errno
import mmap
import os
import threading
from collections.abc import Iterator
from typing import Any

from . import segment
from ._clock_cy import monotonic
from ._guard_cy import CUT
from ._words import CAS_PATIENCE_S
from .errors import MapCorrupted, MapNotFound, SystemCallError, WorkersFull
from .layout import constants
from .process import (
    exists,
    has_mapped,
    is_past_its_program,
    is_visible,
    pid_namespace,
    start_ticks,
)
from .record_lock import FIRST_BYTE, LockFile, LostFile
from .tasks import sleep

K = constants()
_WIPE_ON_FORK = 18  # MADV_WIPEONFORK
_FOLD_PATIENCE_S = 0.2  # a process stopped in there costs others its counters, not more
# bytes of the liveness file, after a row's own
_TOTALS_BYTE = FIRST_BYTE + (1 << 16)  # guards the totals of the control segment
_LEASE_BYTE = _TOTALS_BYTE + 1  # guards the choice of the sweeper
_SNAPSHOT_BYTE = _TOTALS_BYTE + 2  # held by whoever takes a snapshot
_CAS_BYTES = FIRST_BYTE + (1 << 32)  # the pure engine's compare_exchange: a range each segment
COUNTERS = (
    "HITS", "MISSES", "WRITES", "DELETES", "WAITS", "TAKEOVERS", "RETRIES", "LOCKED_READS",
    "NEAR_HITS",
)


def row_byte(row: int) -> int:
    """Give the byte of the liveness file that the process of a row holds locked."""
    return FIRST_BYTE + row


class ForkPage:
    """Two words that a fork wipes: `word` is 0 in a child that has not been seen yet.

    The page has MADV_WIPEONFORK, so a fork that runs no Python hook is noticed too. Every
    operation tests the second word alone: 1 go on, 0 a new process, CUT a segment was cut off.
    """

    def __init__(self) -> None:
        try:
            self.buffer = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise segment.refused("mapping a page of memory", error) from error
        self._words = memoryview(self.buffer).cast("Q")
        self.flag_address = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer, 8))
        try:
            self.buffer.madvise(_WIPE_ON_FORK)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise segment.refused("making a page that a fork wipes", error) from error
            # a kernel without it: at least forks made by Python are noticed
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

    def __init__(self, worker: Any, segment_number: int) -> None:
        self._worker = worker
        self._byte = _CAS_BYTES + (segment_number << 12)
        self._lock: Any = threading.RLock()

    def after_fork(self) -> None:
        """Leave behind a lock that a thread of the parent held."""
        self._lock = threading.RLock()

    def acquire(self, offset: int, patience_s: float = CAS_PATIENCE_S) -> bool:
        """Try to enter for `patience_s` seconds at most. Call `release` whatever comes of it."""
        deadline = monotonic() + patience_s
        if not self._lock.acquire(timeout=patience_s):
            return False
        byte = self._byte + (offset >> 3)
        while not self._worker.file.try_lock(byte):
            if monotonic() >= deadline:
                return False
            sleep(20e-6)
        return True

    def release(self, offset: int) -> None:
        """Leave, as far as this thread is inside. Idempotent."""
        if self._lock._is_owned():
            self._worker.file.unlock(self._byte + (offset >> 3))
            self._lock._release_save()


class Judge:
    """Who of a map's workers lives: its table of rows, and the file whose bytes they lock.

    `control` is the control segment's memory as 64-bit words, `inode` that file's.
    """

    file: Any = None  # the liveness file, once it is open

    def __init__(
        self, label: str, file_name: str, control: Any, rows: int, mode: int | None = None,
        owner_uid: int | None = None, inode: int = 0,
    ) -> None:
        self.label = label
        self._file_name = file_name
        self._control = control
        self._rows = rows
        self._mode = mode
        self._owner_uid = owner_uid
        self._inode = inode
        self._namespace = pid_namespace()
        self.row = -1
        self.incarnation = 0

    def _open(self) -> int:
        try:
            return segment.open_checked(self._file_name, self._mode, self._owner_uid)
        except MapNotFound:
            raise MapCorrupted(
                f"{self.label} has lost its liveness file {self._file_name}: if nothing uses the "
                "map, remove it with python -m shmmap unlink"
            ) from None

    def open_file(self) -> None:
        """Open the liveness file, unless it is open. One descriptor a process: to close another
        one would drop the locks."""
        if self.file is None:
            found = LockFile(self._open, self._lock_again)
            if self.file is None:
                self.file = found
            else:  # a signal handler was quicker
                self.file.keep(found.descriptor)

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Have the liveness file open for a while. Only where this process has not: closing it
        drops all locks on it."""
        self.open_file()
        pid = os.getpid()
        try:
            yield
        finally:
            self.file.close(is_ours=os.getpid() == pid)  # not in a daemon, which closes numbers

    @property
    def descriptor(self) -> int:
        """The number of the liveness file's descriptor; -1: it is not open."""
        return -1 if self.file is None else int(self.file.descriptor)

    def _lock_again(self) -> None:
        """Lock what is ours after others closed the file's descriptor, and so dropped its locks."""

    def is_abandoned(self) -> bool:
        """Tell whether no process has an ephemeral map open: none has the file, by its own or an
        inherited descriptor, and none is in the table. Ours must be closed."""
        return bool(self.file.try_flock(exclusive=True)) and not self.rows_in_use()

    def row_offset(self, row: int) -> int:
        """Give the offset of a row in the control segment."""
        return int(K["C_BYTES_TOTAL"] + row * K["R_BYTES_TOTAL"])

    def _get(self, row: int, field: str) -> int:
        return int(self._control[(self.row_offset(row) + K[f"R_{field}"]) >> 3])

    def _set(self, row: int, field: str, value: int) -> None:
        self._control[(self.row_offset(row) + K[f"R_{field}"]) >> 3] = value

    def _fold(self, row: int) -> None:
        """Add a row's counters to the totals and free it. Its byte lock is held."""
        if self._get(row, "STATE"):
            deadline, held = monotonic() + _FOLD_PATIENCE_S, False
            with contextlib.suppress(SystemCallError):  # no lock to be had: the counters are lost
                while not (held := self.file.try_lock(_TOTALS_BYTE)):
                    if monotonic() > deadline:
                        break
                    sleep(0.0002)
            try:
                for field in COUNTERS:
                    if held:
                        total = K[f"C_TOTAL_{field}"] >> 3
                        summed = self._control[total] + self._get(row, field)
                        self._control[total] = summed & K["WHOLE_WORD"]  # damaged: may wrap
                    self._set(row, field, 0)
            finally:
                if held:
                    self.file.unlock(_TOTALS_BYTE)
            self._set(row, "STATE", 0)

    def clear_dead_rows(self) -> int:
        """Free the rows of the dead; give how many. The caller keeps this process's other tasks
        out of the table."""
        freed = 0
        for row in range(self._rows):
            if row == self.row or not self._get(row, "STATE"):
                continue
            if self.file.try_lock(row_byte(row)):
                if not self._process_lives(row):
                    self._fold(row)
                    freed += 1
                self.file.unlock(row_byte(row))
        return freed

    def _shares_pids(self, row: int) -> bool:
        """Tell whether the pid in a row means that process here too."""
        return self._namespace == self._get(row, "PID_NAMESPACE") != 0

    def _holds_its_byte(self, row: int) -> bool:
        """Tell whether the process of a row holds its byte."""
        try:
            holder = self.file.holder(row_byte(row))
        except LostFile:
            return not self._shares_pids(row)  # who can tell; where pids mean something, they do
        if holder is None:
            return False
        if not holder or not self._shares_pids(row):
            return True
        return bool(holder == self._get(row, "PID"))

    def _process_lives(self, row: int) -> bool:
        """Tell whether the process of a row that nobody locks is alive all the same: somebody
        closed its descriptors. It must be the process that claimed the row, and run the program
        that did: exec keeps pid and start time, but no mapping."""
        if not self._get(row, "STATE") or not self._shares_pids(row):
            return False
        pid = self._get(row, "PID")
        if pid == os.getpid() or not exists(pid):
            return False
        try:
            ticks = start_ticks(pid)
        except OSError:  # no descriptor to look with, or no right to: there is a process
            return True
        if ticks is None:
            return exists(pid) and not is_visible(pid)
        if ticks != self._get(row, "START_TICKS"):
            return False
        return has_mapped(pid, self._inode) is not False

    def _lives(self, row: int) -> bool:
        """Tell whether the process of a row may still run its program. One that was killed keeps
        its locks until the kernel has freed its memory, or written its core dump."""
        if self._shares_pids(row) and is_past_its_program(self._get(row, "PID")):
            return False
        return self._holds_its_byte(row) or self._process_lives(row)

    def is_dead(self, token: int) -> bool:
        """Judge the owner that a token names. A stopped process is alive."""
        row = token >> K["TOKEN_ROW_SHIFT"]
        incarnation = token >> K["TOKEN_INCARNATION_SHIFT"] & K["INCARNATION_MASK"]
        if row == self.row and incarnation == self.incarnation:
            return False
        if row >= self._rows or self._get(row, "INCARNATION") != incarnation:
            return not self.is_cut  # where the table reads as zeros, who can tell
        return not self._lives(row)

    is_cut = False

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
            if self._get(row, "STATE") and (row == self.row or self._lives(row))
        ]

    def totals(self) -> dict[str, int]:
        """Sum the counters of all workers, gone and present."""
        return {
            field.lower(): int(self._control[K[f"C_TOTAL_{field}"] >> 3]) + sum(
                self._get(row, field) for row in range(self._rows) if self._get(row, "STATE")
            )
            for field in COUNTERS
        }


class Worker(Judge):
    """This process as a worker of one map: its row, its token, and the judge of others."""

    def __init__(self, *arguments: Any, shares_file: bool = False) -> None:
        super().__init__(*arguments)
        self._shares_file = shares_file
        self.fork_page = ForkPage()
        self._claims: dict[int, tuple[int, int, int, int, int]] = {}  # by pid

    @property
    def is_cut(self) -> bool:  # type: ignore[override]
        """Whether a segment was found cut off."""
        return bool(self.fork_page.is_cut)

    def _lock_again(self) -> None:
        if self.fork_page.word:
            self.file.try_lock(row_byte(self.row))
        self._share()

    def _share(self) -> None:
        """Tell by the open file itself that somebody has the map: forked children inherit that
        before they have a row of their own."""
        if self._shares_file:
            self.file.try_flock(exclusive=False)

    def join(self, now_ns: int) -> None:
        """Claim a row for this process. The caller keeps its other tasks out; a signal handler or
        finalizer of this one may join in the middle: what was chosen first is what all write, so
        each step may be taken twice.

        Raises:
            WorkersFull: every row belongs to a live process.
        """
        self.open_file()
        self._share()
        pid = os.getpid()
        claim = self._claims.get(pid)
        if claim is None:
            mine = self._choose(pid, now_ns)
            claim = self._claims.setdefault(pid, mine)
            if claim[0] != mine[0]:
                self.file.unlock(row_byte(mine[0]))
        row, incarnation, namespace, ticks, joined_ns = claim
        self._fold(row)
        self.row, self.incarnation = row, incarnation
        self._set(row, "INCARNATION", incarnation)
        self._set(row, "PID", pid)
        self._set(row, "PID_NAMESPACE", namespace)
        self._set(row, "START_TICKS", ticks)
        self._set(row, "JOINED_NS", joined_ns)
        self._set(row, "STATE", 1)

    def _choose(self, pid: int, now_ns: int) -> tuple[int, int, int, int, int]:
        """Lock a row that nobody living has; give what to write into it, its incarnation first."""
        self._namespace = pid_namespace()  # a forked child may be in another than its parent
        for row in range(self._rows):
            if not self.file.try_lock(row_byte(row)):
                continue
            if self._process_lives(row):  # closing all its descriptors cost it its lock
                self.file.unlock(row_byte(row))
                continue
            incarnation = (self._get(row, "INCARNATION") + 1) & K["INCARNATION_MASK"] or 1
            try:
                ticks = start_ticks(pid) or 0
            except OSError:  # it cannot be looked at: no free descriptor
                ticks = 0
            return row, incarnation, self._namespace if ticks else 0, ticks, now_ns
        raise WorkersFull(
            f"{self.label}: all {self._rows} worker rows belong to live processes: use fewer "
            "processes, or close() the map in those that are done with it"
        )

    def publish(self) -> None:
        """Let this process's threads use the row; not those of a child that was forked since."""
        claim = self._claims.get(os.getpid())
        if claim is None:
            return
        self.fork_page.word = (
            claim[0] << K["TOKEN_ROW_SHIFT"] | claim[1] << K["TOKEN_INCARNATION_SHIFT"]
        )
        if os.getpid() not in self._claims:
            self.fork_page.clear()

    def leave(self) -> None:
        """Give the row back. The caller keeps this process's other tasks out."""
        self._claims.clear()
        if self.file is None:
            return
        if self.fork_page.word:
            self._fold(self.row)
            self.fork_page.clear()
            self.file.unlock(row_byte(self.row))
        self.row = -1
        self.file.close()
        self.file = None

    def try_lease(self) -> bool:
        """Be the only process that decides who sweeps; see `end_lease`."""
        return self.file.try_lock(_LEASE_BYTE)  # type: ignore[no-any-return]

    def end_lease(self) -> None:
        """Let others decide. Only after `try_lease` was true."""
        self.file.unlock(_LEASE_BYTE)

    def try_snapshot(self) -> bool:
        """Become the process that takes a snapshot, unless another one is at it; its death ends
        that. The caller holds a lock that keeps the other threads of this process out."""
        return self.file.try_lock(_SNAPSHOT_BYTE)  # type: ignore[no-any-return]

    def end_snapshot(self) -> None:
        """Let others take a snapshot. Only after `try_snapshot` was true."""
        self.file.unlock(_SNAPSHOT_BYTE)

    def snapshot_pid(self) -> int | None:
        """Give the pid of another process that takes a snapshot (0: of another pid namespace)."""
        return self.file.holder(_SNAPSHOT_BYTE)  # type: ignore[no-any-return]
