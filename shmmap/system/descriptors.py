"""What an open file is, and whether a descriptor still is that file's.

A number is not the file: a daemonizer closes all descriptors, and what the application opens then
gets the same numbers. So the file that was opened is noted by device and inode.
"""

from __future__ import annotations

import contextlib
import errno
import os

from .process import this_process

Identity = tuple[int, int]  # device and inode: what a file is, whatever its name is now


def identity_of(descriptor: int) -> Identity:
    """Tell what an open file is. Where fstat does not say, /proc may: whoever cannot tell has to
    leave a descriptor open that may be somebody else's by now."""
    try:
        status = os.fstat(descriptor)
    except OSError as error:
        if error.errno == errno.EBADF:
            raise
        try:
            status = os.stat(f"/proc/self/fd/{descriptor}")
        except OSError:
            raise error from None
    return status.st_dev, status.st_ino


def close_own(descriptor: int, opener: int, identity: Identity | None) -> None:
    """Close a descriptor that the process `opener` opened on a file. In a child that was forked
    meanwhile its number may be another file's: a daemon closes all, its application opens some."""
    if this_process() == opener:
        os.close(descriptor)
        return
    with contextlib.suppress(OSError):
        if identity_of(descriptor) == identity:
            os.close(descriptor)


def fill_standard() -> None:
    """Have descriptors 0, 1 and 2 open (`<&-`, `>&-`), as setuid programs do: a file that gets
    such a number is lost in a subprocess, which has its pipes there."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            with contextlib.suppress(OSError):  # no /dev here: it stays as it is
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def why_no_inodes(path: str) -> str:
    """Say that no file can be made in a file system, whatever its size, and what helps; "": one
    can."""
    with contextlib.suppress(OSError):
        found = os.statvfs(path)
        if found.f_files and found.f_favail == 0:  # no files at most: no limit
            return f"no free inodes: remove leftovers, or mount -o remount,nr_inodes=... {path}"
    return ""
