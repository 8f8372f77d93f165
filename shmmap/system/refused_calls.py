"""What a user is told where the system refuses a call: what was being done, why, and what helps."""

from __future__ import annotations

import errno
import os
import stat

from ..errors import SharedMemoryFull, SystemCallError
from .descriptors import why_no_inodes

SHM_DIRECTORY = "/dev/shm"
_WHAT_HELPS = {
    errno.EMFILE: "this process has no free file descriptor: close some, or raise ulimit -n",
    errno.ENFILE: "the machine has no free file descriptor (fs.file-max)",
    errno.ENOMEM: "no memory or address space for it: see ulimit -v, the memory limit of the "
                  "container, and vm.max_map_count",
    errno.EACCES: f"this user may not do that in {SHM_DIRECTORY}: look at its mode (ls -ld "
                  f"{SHM_DIRECTORY}; 1777 is right), and for a systemd unit or a security module "
                  "that closes it",
    errno.EROFS: f"{SHM_DIRECTORY} is read-only here: mount -o remount,rw {SHM_DIRECTORY}",
    errno.EFBIG: "it is larger than this process may make files (RLIMIT_FSIZE, ulimit -f)",
    errno.ENOLCK: "the kernel has no room for one more record lock",
    errno.EPERM: "the system does not permit it (a seccomp filter, or a security module?)",
}


def refused(doing: str, error: OSError) -> Exception:
    """Make the error of a system call that failed: what was being done, why, and what helps. One
    without a number is none of the kernel's: a signal handler has raised it."""
    if error.errno is None:
        return error
    number = error.errno
    if number in (errno.ENOSPC, errno.EDQUOT):
        why = why_no_inodes(SHM_DIRECTORY) or f"no room ({os.strerror(number)})"
        return SharedMemoryFull(f"{doing}: {SHM_DIRECTORY} has {why}")
    helps = _WHAT_HELPS.get(number, "")
    if number == errno.ENOENT and is_missing():
        helps = f"there is no {SHM_DIRECTORY} here: shmmap needs a tmpfs mounted there"
    return SystemCallError(number, f"{doing}: {os.strerror(number)}" + (helps and f". {helps}"))


def is_missing() -> bool:
    """Tell whether there surely is no /dev/shm. Where it cannot be looked at, there may be one."""
    try:
        return not stat.S_ISDIR(os.stat(SHM_DIRECTORY).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
