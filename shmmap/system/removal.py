"""Taking a name in /dev/shm away, if it still is that of what it was made for."""

from __future__ import annotations

import gc
import os

from . import _sigbus_cy
from .descriptors import Identity
from .segment import SHM_DIRECTORY, refused


def unlink_if(name: str, identity: Identity) -> bool:
    """Remove an object's name if it leads to that very object, not to a successor, which this
    task's handler or finalizer may put there at any moment: no such runs in the middle."""
    if not _sigbus_cy.COMPILED:
        return _unlink_if(SHM_DIRECTORY + name, identity)
    code: int = _sigbus_cy.unlink_if(os.fsencode(SHM_DIRECTORY + name), *identity)
    if code > 0:
        raise refused(f"removing {name}", OSError(code, os.strerror(code)))
    return code == 0


def _unlink_if(path: str, identity: Identity) -> bool:
    """Do it in Python: with the collector off, and in one line. Only a handler whose signal comes
    in there could still come between."""
    device, inode = identity
    collects = gc.isenabled()
    gc.disable()
    try:
        if (s := os.lstat(path)).st_ino == inode and s.st_dev == device: os.unlink(path)  # noqa: E701
        return s.st_ino == inode and s.st_dev == device
    except FileNotFoundError:
        return False
    except OSError as error:
        raise refused(f"removing {path.removeprefix(SHM_DIRECTORY)}", error) from error
    finally:
        if collects:
            gc.enable()
