"""Elsewhere than on Linux: what is missing there for a map that processes share.

`import shmmap` works there, so that an application can be developed and tested with
`testing.LocalMap`. The first shared map says why there cannot be one, before anything is made.
"""

from __future__ import annotations

import errno
import os
import sys

from ..errors import SystemCallError
from .clibrary import libc
from .segment import SHM_DIRECTORY

LOCAL_MAP = "shmmap.testing.LocalMap"


def missing() -> list[str]:
    """List what a shared map rests on and this system does not have."""
    rests_on = (
        (SHM_DIRECTORY, os.path.isdir(SHM_DIRECTORY)),  # files that every process can map
        ("/proc", os.path.exists("/proc/self/stat")),  # who lives, and since when
        ("posix_fallocate", hasattr(os, "posix_fallocate")),  # full is an error, not a crash
        ("renameat2", hasattr(libc, "renameat2")),  # a map is published in one step
        ("MADV_WIPEONFORK", sys.platform == "linux"),  # a child of fork notices that it is one
    )
    return [what for what, is_there in rests_on if not is_there]


def refuse(what: str) -> None:
    """Raise SystemCallError (ENOSYS) where this is not Linux. `what`: it needs Linux."""
    if sys.platform != "linux":
        raise SystemCallError(
            errno.ENOSYS,
            f"{what}: maps that processes share need Linux, and this is {sys.platform}, without "
            f"{', '.join(missing())}. To develop and test here use {LOCAL_MAP}, the same dict in "
            "one process (docs/guide/testing.md); to share one here, a Linux container",
        )
