"""A /dev/shm of one's own, and several users in it: what tests about neighbours share.

Everything here needs root, and runs in children of the test: the test's own process stays
who and where it is.
"""

from __future__ import annotations

import ctypes
import encodings.ascii  # noqa: F401 - loaded late otherwise, where another user may not read it
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil  # noqa: F401 - likewise

from shmmap.lifecycle import opening
from shmmap.system import creation

from .children import Child, die_with_parent

SHM = Path("/dev/shm")
ATTACKER, VICTIM = 65534, 65533
PATIENCE_S = 20.0
_CLONE_NEWNS = 0x20000
_MS_REC_PRIVATE = 0x4000 | 1 << 18
libc = ctypes.CDLL(None, use_errno=True)


def forget_creations() -> None:
    """Let go of the creators file that this process inherited: it is another user's, or in
    another /dev/shm."""
    creation._files.clear()


def enter_own_mounts() -> bool:
    """Return this process mounts of its own; False: not permitted."""
    if libc.unshare(_CLONE_NEWNS) != 0:
        return False
    return bool(libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None) == 0)


def enter_own_shm(size: str) -> bool:
    """Return this process a fresh /dev/shm of some size; False: not permitted."""
    if not enter_own_mounts():
        return False
    options = f"size={size},mode=1777".encode()
    if libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, options) != 0:
        return False
    forget_creations()
    return True


def become(uid: int, groups: Iterable[int] = ()) -> None:
    """Be another user for good, with no umask, and nothing open that the old one opened."""
    os.setgroups(list(groups))
    os.setgid(uid)
    os.setuid(uid)
    os.umask(0)
    die_with_parent()  # a change of user forgets it
    forget_creations()
    opening._attachments.clear()


def stranger(uid: int, work: Callable[[Child], Any], groups: Iterable[int] = ()) -> Child:
    """Start work(child) in a child of this process as another user; whoever starts it ends it."""
    def within(child: Child) -> Any:
        become(uid, groups)
        return work(child)

    return Child(within)


def as_user(uid: int, work: Callable[[], Any], groups: Iterable[int] = ()) -> Any:
    """Run work() in a child of this process as another user; return what it returns."""
    return stranger(uid, lambda child: work(), groups).end(PATIENCE_S)


def outcome(operation: Callable[[], Any]) -> tuple[str, str]:
    """Return the class and the text of what an operation raises; ("", result) if it does not."""
    try:
        return "", repr(operation())
    except Exception as error:
        return type(error).__name__, str(error)


def plant(name: str, mode: int, data: bytes) -> None:
    """Make a file in /dev/shm."""
    path = SHM / name
    path.write_bytes(data)
    path.chmod(mode)
