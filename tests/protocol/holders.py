"""Holders of named locks, for the tests of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import shmmap

from ..support.clocks import delayed_s

PURE = shmmap.ENGINE == "pure"
STALL_S = 0.4  # a loop that is held up longer than that, on a busy machine
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


def edit_when_told(m: Any, key: Any) -> Any:
    """Make a child's work: edit an entry, a number, and leave it when told to."""
    def work(child: Any) -> None:
        with m.edit(key, default=0) as n:
            child.tell("inside")
            child.hear()
            n += 1

    return work


async def watched(work: Coroutine[Any, Any, Any]) -> float:
    """Do some work; return for how long the loop stood still at worst."""
    worst, ends = 0.0, asyncio.ensure_future(work)
    before, delay = time.monotonic(), delayed_s()
    while not ends.done():
        await asyncio.sleep(0.002)
        worst = max(worst, time.monotonic() - before - (delayed_s() - delay))
        before, delay = time.monotonic(), delayed_s()
    await ends
    return worst
