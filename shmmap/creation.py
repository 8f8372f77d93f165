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
        self.descriptors: dict[int, int] = {}  # by user: a process may change its user
        self.held: list[int] = []  # the bytes of the names that the mutex's holder works on


_states = {os.getpid(): ProcessState()}


def process_state() -> ProcessState:
    """Give this process's state. A lock that a parent's thread held at the fork is left behind."""
    pid = os.getpid()
    state = _states.get(pid)
    if state is None:  # setdefault: the first threads of a child may come here at once
        fresh = ProcessState()
        for old in list(_states.values()):
            fresh.descriptors.update(old.descriptors)  # inherited
        state = _states.setdefault(pid, fresh)
    return state


def _creators_descriptor(state: ProcessState) -> int:
    uid = os.geteuid()
    if uid not in state.descriptors:
        name = f"/shmmap.{uid}.creators"
        try:
            made = posix_ipc.SharedMemory(name, posix_ipc.O_CREAT, mode=0o600)
        except (posix_ipc.Error, OSError, ValueError) as error:
            raise ConfigMismatch(
                f"{name}, under which this user's creations queue, is not ours ({error}): another "
                "user made it first. Have it removed from /dev/shm"
            ) from error
        try:
            segment.verify_owner(os.fstat(made.fd), name, 0o600, uid)
        except BaseException:
            made.close_fd()
            raise
        state.descriptors[uid] = made.fd  # never closed: closing any drops every lock
    return state.descriptors[uid]


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
    byte = name_byte(name)
    outermost = not state.mutex._is_owned()  # type: ignore[attr-defined]
    with state.mutex:
        if outermost:  # what is noted there a raising signal handler has left behind
            state.held.clear()
        descriptor = _creators_descriptor(state)
        nested = byte in state.held  # record locks do not nest
        try:
            _wait_for_byte(name, descriptor, byte, timeout_s)
            state.held.append(byte)
            yield
        finally:
            if not nested:  # first, and one call into C: no handler can raise before it is done
                fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, byte)
                state.held = [other for other in state.held if other != byte]


def _wait_for_byte(name: str, descriptor: int, byte: int, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    pause = 0.0005
    while not try_lock_byte(descriptor, byte):
        if time.monotonic() > deadline:
            who = lock_holder(descriptor, byte) or "of another pid namespace"
            raise LockTimeout(
                f"map {name!r}: process {who} has been creating or unlinking it for "
                f"{timeout_s:.0f} s. It may be stopped: kill -CONT it, or end it"
            )
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
