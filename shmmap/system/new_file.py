"""Files that take a name's place, whole or not at all, and where no other user leads them.

The folder that a path names is found component by component, each opened in the one before, and
everything after that happens in the folder that was found: what is renamed meanwhile leads
nowhere else. In a folder where everybody may make names and only remove his own (sticky, as /tmp),
a symbolic link is followed only if its owner is the caller or the folder's owner. That is the rule
of fs.protected_symlinks, which is off on some machines, and never sees a rename.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from io import BufferedWriter, FileIO
from typing import TYPE_CHECKING, BinaryIO

from ..checks import path_of
from ..errors import Reentered, ShmMapError
from ..printable import printable
from .blocks import block
from .descriptors import Identity, close_own, identity_of
from .process import this_process
from .unfinished import Undo

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_LINKS_AT_MOST = 40  # as many as the kernel follows
_PROC_MAGIC = 0x9FA0
_PATH = getattr(os, "O_PATH", os.O_RDONLY)  # only Linux opens what it may not read
_FOLDER = _PATH | os.O_DIRECTORY | os.O_CLOEXEC
_STICKY = stat.S_ISVTX | stat.S_IWOTH
_libc = ctypes.CDLL(None, use_errno=True)


@block
def new_file(path: str | bytes | os.PathLike[str], mode: int) -> Iterator[BinaryIO]:
    """Return a file that takes the place of `path` once it is written, whole and on disk; it is
    removed where anything fails, and what was there stays.

    Raises:
        OSError: with the path that was asked for, and why.
    """
    asked = os.fsdecode(path_of(path))
    temporary = _Temporary()
    try:
        name = _find(asked, temporary)
        temporary.identity = identity_of(temporary.folder)
        with _in_folder(temporary, name, mode) as file:
            yield file
    except OSError as error:
        if error.filename == asked or not error.errno or _is_about_something_else(error):
            raise
        # `from None`: where it failed is an inner matter, and a name that nobody knows
        raise OSError(error.errno, error.strerror, asked) from None
    finally:
        temporary.undo.settle()


class _Temporary:
    """The name under which a file is written, and its folder, which is open until both are done
    with."""

    def __init__(self) -> None:
        self.folder = -1
        self.identity: Identity | None = None  # the folder's
        self.name = ""
        self.made: Identity | None = None
        self.maker = this_process()
        self.undo = Undo(self._end, nullcontext)

    def _end(self) -> None:
        """Remove the file, unless it has its name or is the parent's, and close the folder."""
        if self.name and this_process() == self.maker:
            _remove(self.made, self.name, self.folder)
        self.name = ""
        if self.folder >= 0:
            close_own(self.folder, self.maker, self.identity)
            self.folder = -1


def _is_about_something_else(error: OSError) -> bool:
    """Tell whether an error that came while the file was written is about the map, or another
    file: what is done to this one is done by names relative to its folder."""
    name = error.filename
    return isinstance(error, ShmMapError) or (
        isinstance(name, (str, bytes)) and os.path.isabs(os.fsdecode(name))
    )


@block
def _in_folder(temporary: _Temporary, name: str, mode: int) -> Iterator[BinaryIO]:
    """Return the file that takes the place of `name` in an open folder."""
    folder, maker = temporary.folder, temporary.maker
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    temporary.name = f".shmmap-dump.{os.urandom(8).hex()}"
    descriptor = os.open(temporary.name, flags, 0o600, dir_fd=folder)
    try:
        temporary.made = identity_of(descriptor)
        with _OwnFile(descriptor, maker) as raw, BufferedWriter(raw) as file:
            yield file
            file.flush()
            os.fchmod(descriptor, mode)  # whatever the umask took away
            os.fsync(descriptor)
    finally:
        close_own(descriptor, maker, temporary.made)
    _refuse_child(maker)
    if not _is_still(temporary.made, temporary.name, folder):
        raise OSError(
            errno.EPERM, "another process removed or replaced the file while it was written: "
            "write it into a folder where only you may rename files"
        )
    os.replace(temporary.name, name, src_dir_fd=folder, dst_dir_fd=folder)
    temporary.name = ""
    _sync(folder)


class _OwnFile(FileIO):
    """A file that only the process that made it writes: a child that was forked meanwhile shares
    its place in the file, and has a copy of what was not yet written."""

    def __init__(self, descriptor: int, maker: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._maker = maker

    def write(self, data: ReadableBuffer) -> int:
        """Write; in that child, give up and raise Reentered."""
        if this_process() != self._maker:
            self.close()
            _refuse_child(self._maker)
        return super().write(data)


def _refuse_child(maker: int) -> None:
    if this_process() != maker:
        raise Reentered(
            "a signal handler or a finalizer has forked this process while it was writing a dump. "
            "The parent goes on with it; do it again here, in the child"
        )


def _remove(made: Identity | None, name: str, folder: int) -> None:
    """Remove what was not finished. What took its name is not ours to remove; where that cannot be
    told, whoever could put something there could have removed it, too."""
    is_ours = True
    with suppress(OSError):
        is_ours = made is None or _is_still(made, name, folder)
    with suppress(OSError):
        if is_ours:
            os.unlink(name, dir_fd=folder)


def _is_still(made: Identity, name: str, folder: int) -> bool:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == made


def _sync(folder: int) -> None:
    """Have the new name on disk, as far as this folder and its file system let it be done."""
    try:
        readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    except PermissionError:  # one may write into a folder that one may not read
        return
    try:
        os.fsync(readable)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF):
            return  # a file system that syncs no folders
        text = f"{error.strerror}, when its name was synced: the new file is in place, but may " \
               "not be on disk"
        raise OSError(error.errno, text) from None
    finally:
        os.close(readable)


# -- finding the folder -------------------------------------------------------------------


def _find(asked: str, temporary: _Temporary) -> str:
    """Open the folder of a file that may be replaced, or made, and return its name in there; follow
    links as far as they may be followed."""
    if not asked:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), asked)
    left = _parts(asked)
    temporary.folder = os.open("/" if asked.startswith("/") else ".", _FOLDER)
    links = 0
    while left:
        name = left.pop(0)
        following = _step(temporary.folder, name, not left, asked)
        if following is None:
            return name
        if isinstance(following, str):
            links += 1
            if links > _LINKS_AT_MOST:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), asked)
            left = _parts(following) + left
            if not following.startswith("/"):
                continue
            following = os.open("/", _FOLDER)
        os.close(temporary.folder)
        temporary.folder = following
    raise _not_regular(asked, errno.EISDIR)


def _parts(path: str) -> list[str]:
    """Split a path; "." at the end where it says that it is a folder's."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return [*parts, "."] if path.endswith(("/", "/.")) or not parts else parts


def _step(folder: int, name: str, last: bool, asked: str) -> int | str | None:
    """Go one component on: to an open folder, or to what a link says; None: the file itself."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        if last:
            return None
        raise
    if stat.S_ISLNK(found.st_mode):
        if _is_of_proc(folder):  # what such a link says is not what it leads to
            if last:
                raise _not_regular(asked, errno.EINVAL)
            return os.open(name, _FOLDER, dir_fd=folder)
        return _read_link(folder, name, asked)
    if not last or name in (".", ".."):
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    if stat.S_ISREG(found.st_mode):
        _refuse_anothers(folder, found, asked)
        return None
    raise _not_regular(asked, errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.EINVAL)


def _refuse_anothers(folder: int, found: os.stat_result, asked: str) -> None:
    """Say beforehand that a file cannot be replaced, as the kernel would say after the writing."""
    where = os.fstat(folder)
    if where.st_mode & stat.S_ISVTX and os.geteuid() not in (0, found.st_uid, where.st_uid):
        raise PermissionError(
            errno.EPERM, f"the file that is there belongs to uid {found.st_uid}, in a folder where "
            "only a file's owner may replace it: name another file", asked,
        )


def _read_link(folder: int, name: str, asked: str) -> str:
    """Read a link that may be followed: the very one whose owner was looked at."""
    if sys.platform != "linux":  # no link can be opened: a rename between the two is not seen
        _refuse_link_of_another(folder, os.lstat(name, dir_fd=folder), name, asked)
        return os.readlink(name, dir_fd=folder)
    link = os.open(name, _PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        _refuse_link_of_another(folder, os.fstat(link), name, asked)
        return os.readlink("", dir_fd=link)
    finally:
        os.close(link)


def _refuse_link_of_another(folder: int, found: os.stat_result, name: str, asked: str) -> None:
    where = os.fstat(folder)
    if where.st_mode & _STICKY == _STICKY and found.st_uid not in (os.geteuid(), where.st_uid):
        raise PermissionError(
            errno.EACCES, f"{printable(name)} is a symbolic link that uid {found.st_uid} put "
            "into a folder where everybody may, so it is not followed: remove it, or name "
            "another file", asked,
        )


def _is_of_proc(folder: int) -> bool:
    """Tell whether a folder is in /proc, whose links the kernel follows in ways of its own."""
    if sys.platform != "linux":  # nor is the buffer large enough for the struct of others
        return False
    buffer = (ctypes.c_long * 64)()
    return _libc.fstatfs(folder, buffer) == 0 and buffer[0] == _PROC_MAGIC


def _not_regular(asked: str, number: int) -> OSError:
    return OSError(
        number, "a dump is put in place by renaming, so only of a regular file", asked
    )
