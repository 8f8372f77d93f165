"""Is that worker alive? Who of a map's workers lives, by its table of rows and the file of bytes.

Every process that uses a map has a row in its worker table and a kernel record lock on that row's
byte of the liveness file. The kernel drops the lock when the process dies, however it dies.

Record locks have two traps: they never conflict within one process, and closing any descriptor of
the file drops them all. So one descriptor a process and map, opened here, and my own row is never
asked about.

**Invariants**
 W1  a row in use whose byte is locked belongs to a live process
 W2  an incarnation is never used for two processes
**Crash**: a dead worker's row stays until someone claims or sweeps it; tokens with its incarnation
are dead by then at the latest.
**Locks**: claiming or clearing a row happens under its byte lock and the process's mutex.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ..errors import MapCorrupted, MapNotFound, SystemCallError
from ..memory._clock_cy import monotonic
from ..memory.layout import constants
from ..memory.words import ControlWords, RowWords, Word
from . import segment
from .blocks import block
from .process import (
    OWN_NUMBER,
    exists,
    has_mapped,
    is_past_its_program,
    is_same_start,
    is_visible,
    own_pid,
    pid_namespace,
    start_ticks,
    this_process,
)
from .record_lock import FIRST_BYTE, LockFile, LostFile
from .tasks import sleep

K = constants()
_LOOK_AGAIN_S = 0.25  # after which a process may have another program
_FOLD_PATIENCE_S = 0.2  # a process stopped in there costs others its counters, not more
# bytes of the liveness file, after a row's own
TOTALS_BYTE = FIRST_BYTE + (1 << 16)  # guards the totals of the control segment
_STATE = RowWords.STATE  # looked up once: loops over all rows ask for it
# what a row counts, and where that goes when its worker has gone
COUNTERS: dict[str, tuple[Word, Word]] = {
    "hits": (RowWords.HITS, ControlWords.TOTAL_HITS),
    "misses": (RowWords.MISSES, ControlWords.TOTAL_MISSES),
    "writes": (RowWords.WRITES, ControlWords.TOTAL_WRITES),
    "deletes": (RowWords.DELETES, ControlWords.TOTAL_DELETES),
    "waits": (RowWords.WAITS, ControlWords.TOTAL_WAITS),
    "takeovers": (RowWords.TAKEOVERS, ControlWords.TOTAL_TAKEOVERS),
    "retries": (RowWords.RETRIES, ControlWords.TOTAL_RETRIES),
    "locked_reads": (RowWords.LOCKED_READS, ControlWords.TOTAL_LOCKED_READS),
    "near_hits": (RowWords.NEAR_HITS, ControlWords.TOTAL_NEAR_HITS),
}


def row_byte(row: int) -> int:
    """Return the byte of the liveness file that the process of a row holds locked."""
    return FIRST_BYTE + row


class Judge:
    """Who of a map's workers lives: its table of rows, and the file whose bytes they lock.

    `control` is the control segment's memory as 64-bit words, `inode` that file's.
    """

    file: Any = None  # the liveness file, once it is open

    def __init__(
        self, label: str, file_name: str, control: memoryview, rows: int,
        mode: int | None = None, owner_uid: int | None = None, inode: int = 0,
    ) -> None:
        self.label = label
        self._file_name = file_name
        self._control = control
        self._rows = rows
        self._mode = mode
        self._owner_uid = owner_uid
        self._inode = inode
        self._running: dict[int, tuple[int, float]] = {}  # row: incarnation, and until when
        self._seen_by, self._namespace = this_process(), pid_namespace()
        self.row = -1
        self.incarnation = 0

    def _open(self) -> int:
        try:
            return segment.open_checked(self._file_name, self._mode, self._owner_uid)[0]
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
            first = vars(self).setdefault("file", found)  # one step
            if first is not found:  # a signal handler was quicker
                first.keep(found.descriptor)

    @block
    def asking(self) -> Iterator[None]:
        """Have the liveness file open for a while. Only where this process has not: closing it
        drops all locks on it."""
        self.open_file()
        opener = this_process()
        try:
            yield
        finally:  # not ours in a daemon, which closes numbers
            try:
                self.file.close(is_ours=this_process() == opener)
            except BaseException:  # a signal handler raised in it, before it had closed it or after
                self.file.close()
                raise

    @property
    def descriptor(self) -> int:
        """The number of the liveness file's descriptor; -1: it is not open."""
        return -1 if self.file is None else int(self.file.descriptor)

    def _lock_again(self) -> None:
        """Lock what is ours after others closed the file's descriptor, and so dropped its locks."""

    def is_abandoned(self, patience_s: float = 0.0) -> bool:
        """Tell whether no process has an ephemeral map open: none holds the file, and none is in
        the table. Ours must hold it no more. A process that has just begun another program holds
        it for a moment: `patience_s` waits for that."""
        deadline = monotonic() + patience_s
        while True:
            if self.file.try_flock() and not self.rows_in_use():
                return True
            self.file.end_flock()
            if monotonic() >= deadline or self.rows_in_use():
                return False
            sleep(0.002)

    @property
    def rows(self) -> int:
        """How many rows the table has."""
        return self._rows

    def row_offset(self, row: int) -> int:
        """Return the offset of a row in the control segment."""
        return int(K["C_BYTES_TOTAL"] + row * K["R_BYTES_TOTAL"])

    def _get(self, row: int, word: Word) -> int:
        return self._control[(self.row_offset(row) >> 3) + word.index]

    def _set(self, row: int, word: Word, value: int, process: int) -> None:
        """Store a word of a row, as the process that has locked its byte: not as a child of it
        that goes on here, having no such lock."""
        at = (self.row_offset(row) >> 3) + word.index
        if OWN_NUMBER[0] == process:  # and no call from here on: a fork could come in it
            self._control[at] = value

    def _fold(self, row: int, process: int) -> None:
        """Add a row's counters to the totals and free it. That process holds its byte lock."""
        if self._get(row, RowWords.STATE):
            deadline, held = monotonic() + _FOLD_PATIENCE_S, False
            with contextlib.suppress(SystemCallError):  # no lock to be had: the counters are lost
                while not (held := self.file.try_lock(TOTALS_BYTE)):
                    if monotonic() > deadline:
                        break
                    sleep(0.0002)
            try:
                for counter, total in COUNTERS.values():
                    at = total.index
                    summed = self._control[at] + self._get(row, counter)
                    summed &= K["WHOLE_WORD"]  # a damaged count may wrap
                    if held and OWN_NUMBER[0] == process:  # and no call from here on: see `_set`
                        self._control[at] = summed
                    self._set(row, counter, 0, process)
            finally:
                if held:
                    try:
                        self.file.unlock(TOTALS_BYTE)
                    except BaseException:  # a signal handler raised in it: finish all the same
                        self.file.unlock(TOTALS_BYTE)
                        raise
            self._set(row, RowWords.STATE, 0, process)

    def clear_dead_rows(self) -> int:
        """Free the rows of the dead; return how many. The caller keeps this process's other tasks
        out of the table."""
        freed, process = 0, this_process()
        for row in range(self._rows):
            if row == self.row or not self._get(row, _STATE):
                continue
            if self.file.try_lock(row_byte(row)):
                if not self._process_lives(row):
                    self._fold(row, process)
                    freed += 1
                self.file.unlock(row_byte(row))
        return freed

    def _shares_pids(self, row: int) -> bool:
        """Tell whether the pid in a row means that process here too."""
        return self._namespace == self._get(row, RowWords.PID_NAMESPACE) != 0

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
        return bool(holder == self._get(row, RowWords.PID))

    def _process_lives(self, row: int) -> bool:
        """Tell whether the process of a row that nobody locks is alive all the same: somebody
        closed its descriptors. It must be the process that claimed the row, and run the program
        that did: exec keeps pid and start time, but no mapping."""
        if not self._get(row, RowWords.STATE) or not self._shares_pids(row):
            return False
        pid = self._get(row, RowWords.PID)
        if pid == own_pid() or not exists(pid):
            return False
        try:
            ticks = start_ticks(pid)
        except OSError:  # no descriptor to look with, or no right to: there is a process
            return True
        if ticks is None:
            return exists(pid) and not is_visible(pid)
        if not is_same_start(ticks, self._get(row, RowWords.START_TICKS)):
            return False
        return has_mapped(pid, self._inode) is not False

    def _is_replaced(self, row: int) -> bool:
        """Tell whether it is certain that the process of a row runs another program now: it has
        not mapped the map. To look takes some 100 us, so once in a while has to do."""
        if not self._inode:
            return False
        incarnation, now = self._get(row, RowWords.INCARNATION), monotonic()
        known, until = self._running.get(row, (0, 0.0))
        if known == incarnation and now < until:
            return False
        if has_mapped(self._get(row, RowWords.PID), self._inode) is False:
            return True
        self._running[row] = incarnation, now + _LOOK_AGAIN_S
        return False

    def _lives(self, row: int) -> bool:
        """Tell whether the process of a row may still run its program. One that was killed keeps
        its locks until the kernel has freed its memory, or written its core dump; the program
        that takes its place keeps them, too, if it inherits the descriptor."""
        if self._shares_pids(row) and (
            is_past_its_program(self._get(row, RowWords.PID)) or self._is_replaced(row)
        ):
            return False
        return self._holds_its_byte(row) or self._process_lives(row)

    def is_dead(self, token: int) -> bool:
        """Judge the owner that a token names. A stopped process is alive."""
        row = token >> K["TOKEN_ROW_SHIFT"]
        incarnation = token >> K["TOKEN_INCARNATION_SHIFT"] & K["INCARNATION_MASK"]
        if row == self.row and incarnation == self.incarnation:
            return False
        if row >= self._rows or self._get(row, RowWords.INCARNATION) != incarnation:
            return not self.is_cut  # where the table reads as zeros, who can tell
        return not self._lives(row)

    is_cut = False

    def pid_of(self, token: int) -> tuple[int, bool]:
        """Return the pid in a token's row, and whether that is one of this pid namespace; 0: the
        row has changed hands."""
        row = token >> K["TOKEN_ROW_SHIFT"]
        incarnation = token >> K["TOKEN_INCARNATION_SHIFT"] & K["INCARNATION_MASK"]
        if row >= self._rows or self._get(row, RowWords.INCARNATION) != incarnation:
            return 0, False
        return self._get(row, RowWords.PID), self._shares_pids(row)

    def rows_in_use(self) -> list[tuple[int, int]]:
        """List (row, pid) of the rows in use whose process lives."""
        return [
            (row, self._get(row, RowWords.PID))
            for row in range(self._rows)
            if self._get(row, _STATE) and (row == self.row or self._lives(row))
        ]

    def totals(self) -> dict[str, int]:
        """Sum the counters of all workers, gone and present."""
        return {
            name: self._control[total.index] + sum(
                self._get(row, counter) for row in range(self._rows)
                if self._get(row, _STATE)
            )
            for name, (counter, total) in COUNTERS.items()
        }
