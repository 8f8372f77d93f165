"""Who am I: this process as a worker of a map, with a row in its table.

A row is claimed by locking its byte of the liveness file: see `liveness`, by which others tell that
its process lives.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import threading
import weakref
from typing import Any

from ..errors import WorkersFull
from ..memory._atomics import CAS_PATIENCE_S
from ..memory._clock_cy import monotonic
from ..memory.layout import constants
from ..memory.words import RowWords
from . import segment
from ._sigbus_cy import CUT
from .liveness import TOTALS_BYTE, Judge, row_byte
from .mapping_lock import Hold
from .process import WIPE_ON_FORK, own_pid, pid_namespace, start_ticks, this_process
from .record_lock import FIRST_BYTE
from .tasks import new_lock, sleep

K = constants()
# bytes of the liveness file, after those of `liveness`
_LEASE_BYTE = TOTALS_BYTE + 1  # guards the choice of the sweeper
_SNAPSHOT_BYTE = TOTALS_BYTE + 2  # held by whoever takes a snapshot
_CAS_BYTES = FIRST_BYTE + (1 << 32)  # the pure engine's compare_exchange: a range each segment


class ForkPage:
    """Two words that a fork wipes: `word` is 0 in a child that has not been seen yet.

    The page has MADV_WIPEONFORK, so a fork that runs no Python hook is noticed too. Every
    operation tests the second word alone: 1 go on, 0 a new process, CUT a segment was cut off.
    A hook does the same for forks made by Python: a kernel may lack it, and an emulator of one
    (qemu-user 7.2) may take the call and do nothing.
    """

    def __init__(self) -> None:
        self.process = this_process()  # whose word it is
        try:
            self.buffer = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise segment.refused("mapping a page of memory", error) from error
        self._words = memoryview(self.buffer).cast("Q")
        self.flag_address = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer, 8))
        try:
            self.buffer.madvise(WIPE_ON_FORK)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise segment.refused("making a page that a fork wipes", error) from error
        for number, page in _pages.copy().items():
            if page() is None:
                _pages.pop(number, None)
        _pages[id(self)] = weakref.ref(self)

    def clear(self) -> None:
        """Forget the words."""
        self._words[0] = self._words[1] = 0

    def stop(self) -> None:
        """Have every operation find out that a segment was cut off."""
        self._words[1] = CUT

    def go_on(self) -> None:
        """Undo that: what was cut off does not matter. A new process has still to be seen."""
        self._words[1] = 1 if self._words[0] else 0

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
        self.process = this_process()
        self._words[0] = value
        self._words[1] = 1


_pages: dict[int, weakref.ref[ForkPage]] = {}  # of this process, by id


def _clear_pages() -> None:
    """Clear what is a parent's, in a forked child; not what an earlier hook has made its own."""
    for page in [found for one in _pages.copy().values() if (found := one()) is not None]:
        if page.process != this_process():
            page.clear()


os.register_at_fork(after_in_child=_clear_pages)


class KernelGuard:
    """Exclude every other process and thread around the pure engine's compare_exchange.

    The thread lock is an RLock for one reason: a thread can ask whether it has it. A signal
    handler may raise between any two steps here, and `release` must still know what to free.
    """

    def __init__(self, worker: Worker, segment_number: int) -> None:
        self._worker = worker
        self._byte = _CAS_BYTES + (segment_number << 12)
        self._lock: Any = new_lock(threading.RLock)

    def after_fork(self) -> None:
        """Leave behind a lock that a thread of the parent held."""
        self._lock = new_lock(threading.RLock)

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


class Worker(Judge):
    """This process as a worker of one map: its row, its token, and the judge of others."""

    _hold: Hold | None = None

    def __init__(
        self, label: str, file_name: str, control: memoryview, rows: int, mode: int | None,
        owner_uid: int | None, inode: int, holds_file: bool = False,
    ) -> None:
        super().__init__(label, file_name, control, rows, mode, owner_uid, inode)
        self._holds_file = holds_file
        self.fork_page = ForkPage()
        self._claims: dict[int, tuple[int, int, int, int, int]] = {}  # by process

    @property
    def is_cut(self) -> bool:  # type: ignore[override]
        """Whether a segment was found cut off."""
        return bool(self.fork_page.is_cut)

    def _lock_again(self) -> None:
        if self.fork_page.word:
            self.file.try_lock(row_byte(self.row))

    @property
    def is_holding(self) -> bool:
        """Whether the map is held, by this process or, before that had a row, by its parent."""
        return self._hold is not None

    def _take_hold(self) -> None:
        """Have an ephemeral map held, for forked children too, which have no row of their own yet.
        Before this process has its row: closing the descriptor drops its locks."""
        if not self._holds_file or self._hold is not None:
            return
        descriptor = self._open()
        try:
            hold = Hold(descriptor)
            if vars(self).setdefault("_hold", hold) is not hold:  # a signal handler was quicker
                hold.end()
        finally:
            os.close(descriptor)
        claim = self._claims.get(this_process())
        if claim is not None:  # the same: what it locked is free again
            self.file.try_lock(row_byte(claim[0]))

    def join(self, now_ns: int) -> None:
        """Claim a row for this process. The caller keeps its other tasks out; a signal handler or
        finalizer of this one may join in the middle: what was chosen first is what all write, so
        each step may be taken twice.

        Raises:
            WorkersFull: every row belongs to a live process.
        """
        self._take_hold()
        self.open_file()
        process, pid = this_process(), own_pid()
        claim = self._claims.get(process)
        if claim is None:
            mine = self._choose(pid, now_ns)
            claim = self._claims.setdefault(process, mine)
            if claim[0] != mine[0]:
                self.file.unlock(row_byte(mine[0]))
        row, incarnation, namespace, ticks, joined_ns = claim
        self._fold(row, process)
        self.row, self.incarnation = row, incarnation
        for word, value in (
            (RowWords.INCARNATION, incarnation), (RowWords.PID, pid),
            (RowWords.PID_NAMESPACE, namespace), (RowWords.START_TICKS, ticks),
            (RowWords.JOINED_NS, joined_ns), (RowWords.STATE, 1),
        ):
            self._set(row, word, value, process)

    def _choose(self, pid: int, now_ns: int) -> tuple[int, int, int, int, int]:
        """Lock a row that nobody living has; return what to write there, its incarnation first."""
        if not self._namespace or self._seen_by != this_process():
            # a forked child may be in another than its parent
            self._seen_by, self._namespace = this_process(), pid_namespace()
        for row in range(self._rows):
            if not self.file.try_lock(row_byte(row)):
                continue
            if self._process_lives(row):  # closing all its descriptors cost it its lock
                self.file.unlock(row_byte(row))
                continue
            incarnation = (self._get(row, RowWords.INCARNATION) + 1) & K["INCARNATION_MASK"] or 1
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
        claim = self._claims.get(this_process())
        if claim is None:
            return
        self.fork_page.word = (
            claim[0] << K["TOKEN_ROW_SHIFT"] | claim[1] << K["TOKEN_INCARNATION_SHIFT"]
        )
        if this_process() not in self._claims:
            self.fork_page.clear()

    def give_back(self) -> None:
        """Give the row back, and the hold. The caller keeps this process's other tasks out."""
        process = this_process()
        self._claims.clear()
        if self.file is not None and self.fork_page.word:  # 0 in a child that has no row yet
            self._fold(self.row, process)
            self.fork_page.clear()
            self.file.unlock(row_byte(self.row))
        self.row = -1
        if self._hold is not None:
            self._hold.end()
            vars(self).pop("_hold", None)

    def leave(self) -> None:
        """Give everything back, the file too."""
        self.give_back()
        if self.file is not None:
            self.file.close()
            vars(self).pop("file", None)

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
        """Return the pid of another process that takes a snapshot (0: of another pid namespace)."""
        return self.file.holder(_SNAPSHOT_BYTE)  # type: ignore[no-any-return]
