"""Processes in other namespaces, and what is judged of who lives between them."""

from __future__ import annotations

import time
from typing import Any

import shmmap
from shmmap.lifecycle import opening
from shmmap.memory.words import RowWords
from shmmap.system import process

from ...support.children import Child
from ...support.shard0 import GOT_IT, lock_of, token
from ...support.strangers import enter_own_mounts, libc, outcome

AT_ONCE_S = 1.0  # on a machine that has much else to do
LOCK_TIMEOUT_S = 0.15
CLONE_NEWPID, CLONE_NEWTIME = 0x20000000, 0x80


def mount_proc(options: bytes = b"") -> None:
    """See the processes of one's own pid namespace in /proc."""
    assert enter_own_mounts()
    assert libc.mount(b"proc", b"/proc", b"proc", 0, options) == 0


def open_anew(name: str) -> Any:
    """In a child: open the map as an unrelated process would."""
    opening._attachments.clear()
    return shmmap.ShmMap(name, lock_timeout=LOCK_TIMEOUT_S)


def hold(child: Child, m: Any) -> None:
    """Take shard 0's lock, tell in which row, and keep it until told, or for ever."""
    me = token(m)
    assert lock_of(m).lock(me, 10**9) in GOT_IT
    child.tell(m.attachment.worker.row)
    child.hear()
    lock_of(m).unlock()


def pretend(m: Any, row: int, pid: int) -> None:
    """Have a row tell the pid and the start time of a process that lives here."""
    worker, mine = m.attachment.worker, process.this_process()
    worker._set(row, RowWords.PID, pid, mine)
    worker._set(row, RowWords.START_TICKS, process.start_ticks(pid) or 0, mine)


def assert_not_robbed(m: Any) -> None:
    """A writer waits for a live holder."""
    kind, text = outcome(lambda: m.set("b", 1))
    assert kind == "LockTimeout" and m.stats().takeovers == 0, (kind, text)


def write_and_time(m: Any) -> tuple[float, str, int]:
    """Write once; return the seconds it took, its error, and how many locks were taken over."""
    started = time.monotonic()
    error, _ = outcome(lambda: m.set("b", 1))
    return time.monotonic() - started, error, m.stats().takeovers


def write_after_death(child: Child, m: Any) -> tuple[float, str, int]:
    """Say that nobody was robbed; once the holder is dead, write."""
    child.tell("not robbed")
    child.hear()
    return write_and_time(m)


def assert_taken_over(found: tuple[float, str, int]) -> None:
    """The next writer took the dead holder's lock over at once."""
    seconds, error, takeovers = found
    assert (error, takeovers) == ("", 1)
    assert seconds < AT_ONCE_S
