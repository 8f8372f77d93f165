"""Processes: which one this is; and others as the kernel shows them, by pid and start time, their
ends, and what they have mapped.

Everything about others is asked of /proc. Where it cannot be asked (no free descriptor, no right
to look), the functions say so by an OSError or None, and whoever judges by them takes a process for
alive. It is asked by what tests of users do not replace: not by open(), not by `os.kill`.
"""

from __future__ import annotations

import errno
import mmap
import os
import posix
import sys
from contextlib import suppress
from io import BufferedReader, FileIO

own_pid = posix.getpid  # not os.getpid, which tests of users replace

# Of the flags in /proc/PID/stat: a thread that has one of these runs no instruction of its program
# any more. It ends (PF_EXITING), writes a core dump (PF_DUMPCORE), or has (PF_POSTCOREDUMP).
_PAST_THE_PROGRAM = 0x4 | 0x200 | 0x8
WIPE_ON_FORK = 18  # MADV_WIPEONFORK
_FIRST_TIME_NAMESPACE = 0xEFFFFFFA  # its inode, TIME_NS_INIT_INO


def _two_pages() -> memoryview:
    """Map two pages, as words, of which a fork wipes the second."""
    pages = mmap.mmap(-1, 2 * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without it: at least forks made by Python are noticed
        pages.madvise(WIPE_ON_FORK, mmap.PAGESIZE, mmap.PAGESIZE)
    return memoryview(pages).cast("Q")


_words = _two_pages()
_MINE = mmap.PAGESIZE // 8  # the first word that a fork wipes: this process's number
_LAST = _MINE - 1  # the one before: the highest number of this process and its ancestors
# That word: what `this_process` gives, or 0 in a child that has not called it. To read it is no
# call, so no handler runs, and nobody forks, before the store that follows a comparison with it.
OWN_NUMBER = _words[_MINE : _MINE + 1]


def this_process() -> int:
    """Return a number that no ancestor of this process has: what was noted with another number is
    a parent's. Cheap, and needs no memory.

    Not its pid: a child may have its parent's (each is 1 in a pid namespace of its own), and
    os.getpid() is what tests of users replace. Not a hook alone: a fork in C runs none.
    """
    return _words[_MINE] or _begin()


def _begin() -> int:
    """Number this process, which was forked. All its threads come to the same number."""
    number = _words[_LAST] + 1
    if not _words[_MINE]:
        both = memoryview(number.to_bytes(8, sys.byteorder) * 2).cast("Q")
        _words[_LAST:_MINE + 1] = both  # one step, for other threads and for handlers of signals
    return _words[_MINE]


_forking = 0  # the number of the process that forks


def _before_fork() -> None:
    global _forking
    _forking = _words[_MINE]


def _after_fork() -> None:
    """Begin in a forked child, unless a hook that runs earlier has made it begin by what it did."""
    if _words[_MINE] == _forking:  # the kernel has not wiped it
        _words[_MINE] = 0
    this_process()


_begin()
os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


_STATES = {
    "R": "running", "S": "sleeping", "D": "disk-sleep", "T": "stopped", "t": "tracing-stop",
    "Z": "zombie", "X": "dead", "x": "dead", "K": "wake-kill", "W": "waking", "I": "idle",
    "P": "parked",
}  # fmt: skip


def read_file(path: str) -> bytes:
    """Read a whole file, past what tests of users put in the place of open()."""
    with FileIO(path) as file:
        return file.readall()


def _stat(path: str) -> list[bytes]:
    """Read the fields of a stat file from the state on, which follows the name."""
    fields = read_file(path).rpartition(b")")[2].split()
    if len(fields) < 20:  # it ended as it was read
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), path)
    return fields


def exists(pid: int) -> bool:
    """Tell whether there is a process of that pid, be it a zombie. Needs no descriptor."""
    try:
        posix.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def name_and_state(pid: int) -> tuple[str, str]:
    """Return what a process calls itself, which is its own choice, and what it does. Raises OSError
    where that cannot be read."""
    start, _, rest = read_file(f"/proc/{pid}/stat").rpartition(b")")
    letter = rest.split()[0].decode()
    return os.fsdecode(start.partition(b"(")[2]), _STATES.get(letter, letter)


def is_visible(pid: int) -> bool:
    """Tell whether /proc shows a process: it may be mounted with hidepid."""
    try:
        posix.stat(f"/proc/{pid}")
    except OSError:
        return False
    return True


def start_ticks(pid: int) -> int | None:
    """Return a live process's start time in clock ticks; None: dead, a zombie, or never was.

    Read from /proc rather than as psutil's create_time(): that is derived from the wall
    clock, so it moves when the clock is set, and a live owner would look dead. It is the same
    in every time namespace, but for rounding: compare with `is_same_start`. Raises OSError
    where it cannot be told.
    """
    try:
        fields = _stat(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in (b"Z", b"X") and is_past_its_program(pid):  # else other threads go on
        return None
    return _as_first_sees_it(int(fields[19]))


def is_same_start(one: int, other: int) -> bool:
    """Tell whether two start times may be those of one process. The offset of a time namespace
    need not be whole ticks, so each may be one too low; no pid is used again so soon."""
    return abs(one - other) <= 1


def _as_first_sees_it(ticks: int) -> int:
    """Return a time that /proc shows this process as it shows it to those of the first time
    namespace: it adds the offset of the namespace of the process that reads."""
    offset_ns = _boot_offset_ns()
    if not offset_ns:
        return ticks
    tick_ns = 10**9 // posix.sysconf("SC_CLK_TCK")
    shown_ns = ticks * tick_ns
    if shown_ns >= 1 << 63:  # before the namespace's zero: the kernel's word has wrapped
        shown_ns -= 1 << 64
    return (shown_ns - offset_ns) // tick_ns


def _boot_offset_ns() -> int:
    """Return what this process's time namespace adds to the time since boot. Raises OSError where
    that cannot be told."""
    try:
        mine = posix.stat("/proc/self/ns/time").st_ino
    except FileNotFoundError:  # Linux before 5.6
        return 0
    if mine == _FIRST_TIME_NAMESPACE:
        return 0
    if posix.stat("/proc/self/ns/time_for_children").st_ino != mine:
        raise OSError(errno.ENODATA, "/proc tells only the offset of its children's time namespace")
    for line in read_file("/proc/self/timens_offsets").splitlines():
        clock, seconds, nanoseconds = line.split()
        if clock in (b"boottime", b"7"):
            return int(seconds) * 10**9 + int(nanoseconds)
    return 0


def is_past_its_program(pid: int) -> bool:
    """Tell whether it is certain that no thread of a process runs an instruction of its program
    any more, though the kernel has not freed its memory, or its record locks, yet.

    A thread that is not listed can only have been made by one that is; so if every listed one is
    past its program, or gone, and after that no other one is listed, there is none.
    """
    folder = f"/proc/{pid}/task"
    try:
        tasks = posix.listdir(folder)
        left = set(tasks)
        for task in tasks:
            try:
                if not int(_stat(f"{folder}/{task}/stat")[6]) & _PAST_THE_PROGRAM:
                    return False
            except (FileNotFoundError, ProcessLookupError):
                left.discard(task)  # it is gone, and not to be listed any more
        return bool(tasks) and set(posix.listdir(folder)) <= left
    except OSError:  # gone, or hidden: who can tell
        return False


def has_mapped(pid: int, inode: int) -> bool | None:
    """Tell whether a process has a file of /dev/shm mapped; None: it may not be looked at.

    A program that was replaced by another one (exec) has lost its mappings; one that has only
    closed its descriptors still has them.
    """
    wanted = str(inode).encode()
    try:
        with BufferedReader(FileIO(f"/proc/{pid}/maps")) as file:
            for line in file:  # noqa: SIM110  # a generator that is left early takes memory
                if line.split(None, 5)[4] == wanted and b"/shmmap." in line:
                    return True
            return False
    except OSError:
        return None


def mapped_here(part_of_name: bytes) -> list[tuple[int, int]]:
    """List what this process has mapped of files with that in their names: from where to where."""
    try:
        lines = [line for line in read_file("/proc/self/maps").splitlines() if part_of_name in line]
    except OSError:
        return []
    found = (line.split(None, 1)[0].split(b"-") for line in lines)
    return [(int(start, 16), int(end, 16)) for start, end in found]


def _status(pid: int | str, field: bytes) -> list[bytes]:
    """Return what a process's /proc/PID/status says after a field's name."""
    for line in read_file(f"/proc/{pid}/status").splitlines():
        if line.startswith(field):
            return line.split()[1:]
    raise LookupError(field)


def effective_uid(pid: int) -> int | None:
    """Return the user that a process acts as; None: it is gone, or cannot be looked at.

    Not the owner of /proc/PID: that is root's where a process has changed its user.
    """
    try:
        return int(_status(pid, b"Uid:")[1])
    except (OSError, LookupError):
        return None


def pid_namespace() -> int:
    """Identify the pid namespace of this process; 0: /proc is not there, or of another one, so
    that pids cannot be looked up in it."""
    try:
        is_only_here = len(_status("self", b"NSpid:")) == 1
        return posix.stat("/proc/self/ns/pid").st_ino if is_only_here else 0
    except (OSError, LookupError):
        return 0


def boot_id() -> tuple[int, int]:
    """Identify this boot of the kernel, as two words; zeros: it cannot be told (/proc/sys is not
    there, as under systemd's ProcSubset=pid)."""
    try:
        digits = read_file("/proc/sys/kernel/random/boot_id").strip().replace(b"-", b"")
        return int(digits[:16], 16), int(digits[16:], 16)
    except (FileNotFoundError, PermissionError, ValueError):
        return 0, 0
