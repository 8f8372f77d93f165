"""What tests of events and of timings share: a process that holds a shard, or dies with it."""

from __future__ import annotations

import os
from typing import Any

from shmmap.shard import _status

from ...support.damage import Damage


def token(m: Any) -> int:
    return int(m.attachment.worker.fork_page.word) | 1


def kinds(m: Any) -> list[str]:
    return [one.kind for one in m.events()]


def holding(m: Any, work: Any) -> Any:
    """Return what a child does: hold shard 0 while it does some work."""
    def hold(child: Any) -> None:
        m.get("become a worker")
        shard = m.attachment.distinct()[0]
        assert shard.lock.lock(token(m), 10**9) == _status.FREE
        child.tell("held")
        work(child)
        shard.lock.unlock()

    return hold


def die_holding(m: Any, start: Any) -> None:
    """Have a child die that holds shard 0, in the middle of a change."""
    def die(child: Any) -> None:
        Damage(m).set_header("DIRTY", 1)
        os._exit(0)

    start(holding(m, die)).reap()
