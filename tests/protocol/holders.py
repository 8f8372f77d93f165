"""Holders of named locks, for the tests of them."""

from __future__ import annotations

from typing import Any

import shmmap

PURE = shmmap.ENGINE == "pure"
SOON_S = 2.0  # a takeover or wakeup takes milliseconds; this machine may be busy


def entries(m: Any) -> int:
    """Count the entries of the lock shard."""
    return int(m.attachment.locks.count())


def take_and_stop(m: Any, key: Any, lease: float | None = None) -> Any:
    """Make a child's work: take a lock, say its token, wait to be told, leave the lock."""
    def work(child: Any) -> Any:
        lock = m.lock(key, lease=lease)
        lock.acquire()
        child.tell(lock.token)
        child.hear()
        try:
            lock.release()
        except shmmap.LockLost as error:
            return str(error)
        return "released"

    return work
