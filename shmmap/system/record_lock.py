"""Record locks of the kernel on the bytes of a file, which end with the process that has them.

They have three traps. They never conflict within one process. Closing any descriptor of the file
drops all that the process has on it. And a descriptor is a number: a daemonizer that closes every
descriptor of its process leaves ours to the next file that is opened, of somebody else. So before
each use the number is compared with the file that it stood for (device and inode); if it stands for
another one now, or for none, that one is left alone and the file is opened again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable
from contextlib import suppress

from ..errors import SystemCallError
from . import descriptors, segment

# Where the locked bytes of our files begin: far from where other programs lock theirs (SQLite from
# 2**30 on), should a number ever stand for one of their files after all.
FIRST_BYTE = 1 << 60
_FLOCK = struct.Struct("hhqqi4x")  # type, whence, start, length, pid


def lock_holder(descriptor: int, byte: int) -> int | None:
    """Return the pid that holds a lock on a byte (0: of another pid namespace); None: free."""
    ask = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    try:
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, ask))
    except OSError as error:
        raise segment.refused("asking who has locked a byte of a file", error) from error
    return None if kind == fcntl.F_UNLCK else pid


def try_lock_byte(descriptor: int, byte: int) -> bool:
    """Lock one byte of a file if no other process has; the lock lasts until death or unlock."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        return True
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise segment.refused("locking a byte of a file in /dev/shm", error) from error


class LostFile(SystemCallError):
    """A file that is locked by its bytes was closed by others, and cannot be opened again."""


class LockFile:
    """A file whose bytes are locked. `open_file()` opens it by its name and gives a descriptor,
    first and whenever others have closed that; `on_open()` is called after the latter: the locks
    that there were are gone."""

    def __init__(
        self, open_file: Callable[[], int], on_open: Callable[[], None] = lambda: None
    ) -> None:
        self._open_again = open_file
        self._on_open = on_open
        self._spare: list[int] = []  # to close one of them would drop the locks
        self.descriptor = -1
        self.descriptor = open_file()  # last: what follows must see to it that it is closed
        try:
            self.identity = descriptors.identity_of(self.descriptor)
        except BaseException as error:
            os.close(self.descriptor)
            if isinstance(error, OSError):
                raise segment.refused("looking at a lock file", error) from error
            raise

    def keep(self, descriptor: int) -> None:
        """Note another descriptor of the file, which stays open for as long as this one."""
        try:
            self._spare.append(descriptor)
        except MemoryError:  # it is closed all the same: then lock anew what that has freed
            os.close(descriptor)
            self._on_open()
            raise

    def stands(self) -> bool:
        """Tell whether the descriptor is still that of the file."""
        try:
            return descriptors.identity_of(self.descriptor) == self.identity
        except OSError as error:
            if error.errno == errno.EBADF:
                return False
            raise segment.refused("looking at an open lock file", error) from error

    def links(self) -> int:
        """Count the names that the file has."""
        number = self.number()
        try:
            return os.fstat(number).st_nlink
        except OSError as error:
            raise segment.refused("looking at a lock file", error) from error

    def number(self) -> int:
        """Return the descriptor, after opening the file again if that was closed by others.

        Raises:
            LostFile: it is not there any more, or cannot be opened.
        """
        if self.stands():
            return self.descriptor
        try:
            found = self._open_again()
        except Exception as error:
            raise LostFile(
                getattr(error, "errno", None) or 0,
                f"the descriptor of a lock file was closed by others in this process, and the "
                f"file cannot be opened again: {error}",
            ) from error
        try:
            same = descriptors.identity_of(found) == self.identity
        except BaseException as error:
            os.close(found)
            if isinstance(error, OSError):
                raise segment.refused("looking at a lock file", error) from error
            raise
        if not same:
            os.close(found)
            raise LostFile(
                0, "the descriptor of a lock file was closed by others in this process, and the "
                "file has been replaced since"
            )
        self.keep(found)  # first: where a handler comes here too, none is lost
        if not self.stands():
            self.descriptor = found
            self._on_open()
        return self.descriptor

    def holder(self, byte: int) -> int | None:
        """Return the pid that holds a lock on a byte (0: of another pid namespace); None: free."""
        return lock_holder(self.number(), byte)

    def try_lock(self, byte: int) -> bool:
        """Lock one byte if no other process has; the lock lasts until death or unlock."""
        return try_lock_byte(self.number(), byte)

    def unlock(self, byte: int) -> None:
        """Free one byte. Where the descriptor is not the file's any more, the lock is gone. Never
        fails: where the kernel does not tell whose it is, nobody else has a lock so far up."""
        with suppress(SystemCallError):
            if not self.stands():
                return
        with suppress(OSError):
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, byte)

    def try_flock(self) -> bool:
        """Lock the whole file, against all who hold it (see `mapping_lock`); tell whether that
        worked. No record lock stands against it."""
        try:
            fcntl.flock(self.number(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError as error:
            if isinstance(error, SystemCallError):
                raise
            raise segment.refused("locking a file in /dev/shm", error) from error

    def end_flock(self) -> None:
        """Let others have it."""
        with suppress(OSError):
            if self.stands():
                fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def close(self, is_ours: bool = False) -> None:
        """Close it, and with it all locks; leave alone what is, or may be, another file's, unless
        the caller knows that it `is_ours`: it has opened it just now, in this process."""
        with suppress(OSError):
            if is_ours or self.stands():
                os.close(self.descriptor)
        for number in self._spare:
            with suppress(OSError):
                if number != self.descriptor and (
                    descriptors.identity_of(number) == self.identity
                ):
                    os.close(number)
        self._spare.clear()
        self.descriptor = -1
