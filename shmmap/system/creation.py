"""Who may make, replace or unlink a name: one task of one process of a user at a time.

A file per user, never unlinked, carries a kernel byte-range lock per map name; the kernel frees it
if its holder dies. In a process each name has a mutex of its own, so that whoever waits for one
name keeps nobody from another. A signal handler, or a finalizer, may open the very map that its own
task is making: it goes in, and what it interrupted finds that out (see `making`, `opening`).

Anyone may take the file's name first, or remove the file. Of a few names the first counts that is
ours or free; and the lock counts only if its file is still that one once it is had.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator

import xxhash

from ..errors import ConfigMismatch, LockTimeout, Reentered, ShmMapError
from ..memory._clock_cy import monotonic
from . import segment
from .blocks import block
from .mutex import Mark, Mutex
from .process import this_process
from .record_lock import LockFile, try_lock_byte
from .tasks import sleep

CREATION_TIMEOUT_S = 60.0
_NAMES = 8  # of creators' files: more than a neighbour will squat by mistake
_REPLACED_AT_MOST = 8
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_SQUATTED = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV)

_files: dict[int, LockFile] = {}  # by user: a process may change its user
_mutexes: dict[str, Mutex] = {}  # by map


class Forked(Reentered):
    """This is the child of a fork in the middle of a creation, and has to begin again."""


class Turn:
    """The right to make, replace or unlink a map, of the process that took it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process = this_process()
        self.descriptor = -1  # of the file by which it is held, before it is

    def is_ours(self) -> bool:
        """Tell whether this is that process, not a child that was forked meanwhile. Needs no
        memory."""
        return this_process() == self.process

    def check(self) -> None:
        """Have a child that was forked meanwhile begin again."""
        if not self.is_ours():
            raise Forked(
                f"map {self.name!r}: a signal handler or a finalizer has forked this process while "
                "it was opening or unlinking the map. Do it again here, in the child"
            )


def creators_name(uid: int, which: int) -> str:
    """Name a file under which a user's creations queue."""
    return f"/shmmap.{uid}.creators" + (f"-{which}" if which else "")


def _open_creators(uid: int) -> int:
    """Open the first creators' file that is ours, or make it, and return its descriptor. The same
    names are passed over as by `_is_current`, or no process would ever be satisfied."""
    for which in range(_NAMES):
        name = creators_name(uid, which)
        path = segment.SHM_DIRECTORY + name
        try:
            descriptor = os.open(path, _FLAGS, 0o600)
        except OSError as error:
            if error.errno in _SQUATTED and os.path.lexists(path) and not _is_mended(path, uid):
                continue
            try:
                descriptor = os.open(path, _FLAGS, 0o600)
            except OSError:
                raise segment.refused(
                    f"opening {name}, under which creations queue", error
                ) from error
        try:
            status = os.fstat(descriptor)
            if _is_ours(status, uid):
                if stat.S_IMODE(status.st_mode) != 0o600:  # the umask took some of it away
                    os.fchmod(descriptor, 0o600)
                return descriptor
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, OSError):
                raise segment.refused(f"looking at {name}", error) from error
            raise
        os.close(descriptor)
    raise ConfigMismatch(
        f"{creators_name(uid, 0)} and the {_NAMES - 1} names after it, under which this user's "
        "creations queue, all belong to others: another user of this machine keeps you from making "
        f"maps. Find out who (ls -l {segment.SHM_DIRECTORY})"
    )


def _is_mended(path: str, uid: int) -> bool:
    """Tell whether a file that could not be opened is ours, and give it the mode that it should
    have: its maker had a umask, and died. In a sticky folder nobody else can replace it."""
    try:
        status = os.lstat(path)
        if not _is_ours(status, uid):
            return False
        if stat.S_IMODE(status.st_mode) != 0o600:
            os.chmod(path, 0o600)
    except FileNotFoundError:  # nothing is in the way any more
        return True
    except OSError as error:
        raise segment.refused(f"looking at {path}", error) from error
    return True


def _is_ours(status: os.stat_result, uid: int) -> bool:
    return (
        status.st_uid == uid and stat.S_ISREG(status.st_mode) and status.st_nlink == 1
        and not stat.S_IMODE(status.st_mode) & ~0o600
    )


def _is_current(file: LockFile, uid: int) -> bool:
    """Tell whether a creators' file is the one that a new process would take."""
    for which in range(_NAMES):
        try:
            status = os.lstat(segment.SHM_DIRECTORY + creators_name(uid, which))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise segment.refused(f"looking at {creators_name(uid, which)}", error) from error
        if _is_ours(status, uid):
            return (status.st_dev, status.st_ino) == file.identity
    return False


def creators_file() -> LockFile:
    """Return this user's creators' file; one that was replaced stays open, with its locks."""
    uid = os.geteuid()
    file = _files.get(uid)
    if file is None or not _is_current(file, uid):
        found = LockFile(lambda: _open_creators(uid))
        if file is not None and found.identity == file.identity and file.stands():
            return file  # removed and restored while we looked
        try:
            _files[uid] = file = found
        except MemoryError:
            os.close(found.descriptor)
            raise
    return file


def opened_file(uid: int) -> LockFile | None:
    """Return the creators' file of a user if this process has it open."""
    return _files.get(uid)


def name_byte(name: str) -> int:
    """Return the byte of the creators' file that stands for a map name."""
    return int(xxhash.xxh3_64_intdigest(name.encode()) >> 2)


@block
def name_mutex(name: str, timeout_s: float | None) -> Iterator[bool]:
    """Keep the other tasks of this process from opening, leaving and unlinking a map; return
    whether this task had it already.

    Raises:
        LockTimeout: another task has had it for `timeout_s` seconds.
    """
    mutex = _mutexes.setdefault(name, Mutex())
    mark = Mark()
    try:
        nested = mutex.owned()
        if not mutex.acquire(mark, timeout_s):
            raise LockTimeout(
                f"map {name!r}: another thread of this process has been opening or unlinking it "
                f"for {timeout_s:g} s. Try again"
            )
        yield nested
    finally:
        mark.clear()  # one call into C, before which no handler comes


@block
def creation_lock(name: str, timeout_s: float = CREATION_TIMEOUT_S) -> Iterator[Turn]:
    """Hold the right to make, replace or unlink the map `name`.

    Raises:
        LockTimeout: another process has held it for `timeout_s` seconds.
        Forked: instead of any other error, in a child that was forked meanwhile.
    """
    deadline = monotonic() + timeout_s
    byte = name_byte(name)
    with name_mutex(name, timeout_s) as nested:
        turn = Turn(name)
        try:
            _wait_for_byte(turn, byte, deadline, timeout_s)
            yield turn
        except ShmMapError:
            turn.check()  # else what a child found by descriptors that it does not have, is void
            raise
        finally:
            try:
                if not nested:  # first, and one call into C, before which no handler comes
                    fcntl.lockf(turn.descriptor, fcntl.LOCK_UN, 1, byte)
            except (OSError, ValueError):  # nothing was locked
                pass


def _wait_for_byte(turn: Turn, byte: int, deadline: float, timeout_s: float) -> None:
    """Lock a name's byte of the creators' file."""
    pause, replaced = 0.0005, 0
    while True:
        file = creators_file()
        turn.descriptor = file.number()
        if try_lock_byte(turn.descriptor, byte):
            turn.check()
            if _is_current(file, os.geteuid()):
                return
            file.unlock(byte)  # it was removed or replaced meanwhile
            replaced += 1
            # each time costs a descriptor
            if replaced == _REPLACED_AT_MOST or monotonic() > deadline:
                raise LockTimeout(
                    f"map {turn.name!r}: {creators_name(os.geteuid(), 0)}, under which this user's "
                    f"creations queue, is missing or another file each time after it was opened, "
                    f"{replaced} times now: something removes it again and again (a cleaner of "
                    f"{segment.SHM_DIRECTORY}?)"
                )
        elif monotonic() > deadline:
            who = file.holder(byte) or "of another pid namespace"
            raise LockTimeout(
                f"map {turn.name!r}: process {who} has been creating or unlinking it for "
                f"{timeout_s:.0f} s. It may be stopped: kill -CONT it, or end it"
            )
        sleep(pause)
        turn.check()
        pause = min(pause * 2, 0.05)
