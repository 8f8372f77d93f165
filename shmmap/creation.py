"""Who may make, replace or unlink a name: one process of a user at a time.

A file per user, never unlinked, carries a kernel byte-range lock per map name;
the kernel frees it if its holder dies. Whoever holds it sees no half-made map
but those of the dead, and may replace them.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import posix_ipc
import xxhash

from . import segment
from .errors import ConfigMismatch, LockTimeout

CREATION_TIMEOUT_S = 60.0
_FLOCK = struct.Struct("hhqqi4x")  # type, whence, start, length, pid


class ProcessState:
    """What belongs to this process and must be made anew in a forked child."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.mutex = threading.RLock()
        self.descriptor = -1
        self.held: list[int] = []  # the bytes of the names that the mutex's holder works on


_states = {os.getpid(): ProcessState()}


def process_state() -> ProcessState:
    """Give this process's state. A lock that a parent's thread held at the fork is left behind."""
    pid = os.getpid()
    state = _states.get(pid)
    if state is None:  # setdefault: the first threads of a child may come here at once
        fresh = ProcessState()
        fresh.descriptor = max(old.descriptor for old in list(_states.values()))  # inherited
        state = _states.setdefault(pid, fresh)
    return state


def _creators_descriptor(state: ProcessState) -> int:
    if state.descriptor < 0:
        name = f"/shmmap.{os.geteuid()}.creators"
        try:
            made = posix_ipc.SharedMemory(name, posix_ipc.O_CREAT, mode=0o600)
        except (posix_ipc.Error, OSError, ValueError) as error:
            raise ConfigMismatch(
                f"{name}, under which this user's creations queue, is not ours ({error}): another "
                "user made it first. Have it removed from /dev/shm"
            ) from error
        try:
            segment.verify_owner(os.fstat(made.fd), name, 0o600, os.geteuid())
        except BaseException:
            made.close_fd()
            raise
        state.descriptor = made.fd  # never closed: closing any descriptor drops every lock
    return state.descriptor


def lock_holder(descriptor: int, byte: int) -> int | None:
    """Give the pid that holds a lock on a byte (0: of another pid namespace); None: free."""
    ask = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, ask))
    return None if kind == fcntl.F_UNLCK else pid


def try_lock_byte(descriptor: int, byte: int) -> bool:
    """Lock one byte of a file if no other process has; the lock lasts until death or unlock."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        return True
    except (BlockingIOError, PermissionError):
        return False


def unlock_byte(descriptor: int, byte: int) -> None:
    """Free one byte of a file."""
    fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, byte)


def name_byte(name: str) -> int:
    """Give the byte of the creators' file that stands for a map name."""
    return int(xxhash.xxh3_64_intdigest(name.encode()) >> 2)


@contextmanager
def creation_lock(name: str, timeout_s: float = CREATION_TIMEOUT_S) -> Iterator[None]:
    """Hold the right to make, replace or unlink the map `name`.

    Raises:
        LockTimeout: another process has held it for `timeout_s` seconds.
    """
    state = process_state()
    with state.mutex:
        descriptor = _creators_descriptor(state)
        byte = name_byte(name)
        deadline = time.monotonic() + timeout_s
        pause = 0.0005
        while not try_lock_byte(descriptor, byte):
            if time.monotonic() > deadline:
                raise LockTimeout(
                    f"map {name!r}: process {lock_holder(descriptor, byte)} has been creating or "
                    f"unlinking it for {timeout_s:.0f} s. It may be stopped: kill -CONT it, or "
                    "end it"
                )
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
        state.held.append(byte)
        try:
            yield
        finally:
            state.held.remove(byte)
            if byte not in state.held:  # record locks do not nest
                unlock_byte(descriptor, byte)
