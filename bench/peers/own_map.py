"""The map under test, where a scenario makes it for itself: filled, stopped, locked, removed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ..core.workloads import key_of, value_of

PATIENCE_NS = 10**10
OTHER_THREAD = 0x3000  # locks are taken in the name of a thread that does not exist


def filled_map(name: str, entries: int, shards: int | None) -> Any:
    """Make a map that holds every key."""
    import shmmap

    m = shmmap.ShmMap.create(name, capacity=entries, shards=shards, ephemeral=True)
    m.set_many((key, value_of(key)) for key in map(key_of, range(entries)))
    return m


def affordable(entries: int) -> int:
    """Return the number of entries, or a fiftieth of it where the map runs its pure engine."""
    import shmmap

    return entries if shmmap.ENGINE == "compiled" else max(1, entries // 50)


def freeze(m: Any) -> Any:
    """Stop the clock of a map that no other process uses; its `frozen_ns` is the time."""
    clock = m.attachment.clock
    clock.frozen_ns = clock.now_ns()
    return clock


@contextmanager
def all_locks(m: Any) -> Iterator[None]:
    """Hold every shard's lock, taken in order: no write gets in between."""
    from shmmap.shard._status import TIMED_OUT

    me = m.attachment.worker.fork_page.word | OTHER_THREAD
    with ExitStack() as stack:
        for number, shard in enumerate(m.attachment.shards):
            if shard.lock.lock(me, PATIENCE_NS) == TIMED_OUT:
                raise TimeoutError(f"shard {number} of {m.name} stays locked")
            stack.callback(shard.lock.unlock)
        yield


def remove(m: Any) -> None:
    """Remove a map that this process made."""
    m.unlink()
    m.close()
