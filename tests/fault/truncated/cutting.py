"""Files of a live map that are cut off, and what operations say then."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.memory.layout import PAGE
from shmmap.system import segment

SHM = Path("/dev/shm")
COMPILED = shmmap.ENGINE == "compiled"
LOCK_TIMEOUT_S = 0.5
LONGEST_S = LOCK_TIMEOUT_S + 2
DOCUMENTED = (shmmap.MapCorrupted, shmmap.LockTimeout)
KEYS = 300
needs_guard = pytest.mark.skipif(not COMPILED, reason="the pure engine cannot handle SIGBUS")


def objects(m: Any) -> dict[str, Path]:
    """Return the files of a map of two shards."""
    found = m.attachment
    label = segment.shard_name(m.name, found.nonce, 0, 0)
    return {
        "control": SHM / segment.control_name(m.name)[1:],
        "shard 0": SHM / label[1:],
        "shard 1": SHM / (label[1:-1] + "1"),
        "locks": SHM / segment.locks_name(m.name, found.nonce)[1:],
        "liveness": SHM / segment.liveness_name(m.name, found.nonce)[1:],
        "semaphore": SHM / segment.semaphore_file(label)[1:],
    }


def cut(path: Path, length: str) -> None:
    """Truncate a file as another process would."""
    size = path.stat().st_size
    left = {"nothing": 0, "a page": PAGE, "half": size // 2, "all but a page": size - PAGE}[length]
    os.truncate(path, min(size, max(0, left)))


def filled(name: str, **more: Any) -> Any:
    """Make a map whose every page is in use."""
    m = shmmap.ShmMap.create(
        name, "300KB", shards=2, sweep_interval=None, lock_timeout=LOCK_TIMEOUT_S, **more
    )
    for key in range(KEYS):
        m.set(key, key, ttl=1000)
    return m


OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "get": lambda m: [m.get(key) for key in range(KEYS)],
    "get one": lambda m: m.get(1),
    "set": lambda m: [m.set(key, b"x" * 100) for key in range(0, KEYS, 7)],
    "delete": lambda m: [m.delete(key) for key in range(KEYS)],
    "incr": lambda m: [m.incr(key) for key in range(KEYS)],
    "touch": lambda m: [m.touch(key, 5) for key in range(KEYS)],
    "items": lambda m: list(m.items()),
    "popitem": lambda m: m.popitem(),
    "clear": lambda m: m.clear(),
    "check": lambda m: m.check(),
    "repair": lambda m: m.repair(),
    "stats": lambda m: m.stats(),
    "sweep": lambda m: m.sweep(),
    "close": lambda m: m.close(),
    "unlink": lambda m: m.unlink(),
}


def outcome(operation: Callable[[], Any]) -> str:
    """Tell how an operation ends: "done", or the documented error; in time."""
    began = time.monotonic()
    try:
        operation()
        how = "done"
    except (*DOCUMENTED, shmmap.MapFull, shmmap.MapUnlinked, KeyError, TypeError) as error:
        how = type(error).__name__  # KeyError: popitem of zeros; TypeError: incr of bytes
        if isinstance(error, shmmap.MapCorrupted) and "truncated" in str(error):
            how = "cut"
    assert time.monotonic() - began < LONGEST_S
    return how
