"""Regular files that are read at a place of one's own."""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def open_regular(path: str, flags: int) -> int:
    """Open a file; refuse, by its name, what is none."""
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not stop us
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "a dump is a regular file", path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class OwnPlace(FileIO):
    """A file that is read at a place of one's own: the kernel's is shared with a child that was
    forked meanwhile, and goes on reading."""

    _at = 0

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read on."""
        count = os.preadv(self.fileno(), [buffer], self._at)
        self._at += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place counted from the start."""
        assert whence == os.SEEK_SET
        self._at = offset
        return offset

    def tell(self) -> int:
        """Return the place."""
        return self._at
