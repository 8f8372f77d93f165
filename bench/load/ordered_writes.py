"""Processes that write a map in order while another one reads all of it at once.

Each writer gives its keys, one after the other, the value of its turn; then the next turn begins.
So at any one moment the first so many keys of a writer are of one turn, and all others of the turn
before: a listing of the keys that is not so was true at no moment.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from ..core.peer import unique_name
from ..core.workloads import VALUE_BYTES, key_of
from ..peers.own_map import remove
from .worker_pool import Job, WorkerPool

# How a map is read meanwhile.
NOBODY = "(nobody lists)"
ALL_LOCKS = "copy under all locks"
SNAPSHOT = "snapshot"


def turn_value(turn: int) -> bytes:
    """Return the value that all keys get in a writer's n-th turn.

    >>> turn_value(3)[:17], len(turn_value(3))
    (b'0000000000000003.', 100)
    """
    return b"%016d" % turn + b"." * (VALUE_BYTES - 16)


class OrderedWriter:
    """A worker that writes its keys in order; its answers are the nanoseconds of each write."""

    def __init__(self, name: str, keys: list[str]) -> None:
        import shmmap

        self.m = shmmap.ShmMap.attach(name)
        self.keys = keys
        self.at, self.turn = 0, 1

    def run(self, until_ns: int) -> array[int]:
        """Write until it is time."""
        put, clock, keys, at = self.m.set, time.monotonic_ns, self.keys, self.at
        value, last, times = turn_value(self.turn), len(keys) - 1, array("q")
        note, before = times.append, clock()
        while not times or before < until_ns:
            put(keys[at], value)
            now = clock()
            note(now - before)
            before = now
            if at == last:
                at, self.turn = -1, self.turn + 1
                value = turn_value(self.turn)
            at += 1
        self.at = at
        return times

    def close(self) -> None:
        """Detach."""
        self.m.close()


class WatchedWriters:
    """A lane: a map of so many entries, worker 0 that reads all of it, and its writers.

    Attributes:
        way: how the map is read; NOBODY: it is not.
        read: the answers of worker 0.
        written: the answers of the writers, a list for each repetition.
    """

    def __init__(
        self, scenario: str, way: str, entries: int, seconds: float, job: Callable[[str], Job],
        writers: int, shards: int | None = None, cores: Sequence[int] = (),
    ) -> None:
        import shmmap

        self.scenario, self.way, self.entries, self.seconds = scenario, way, entries, seconds
        self.read: list[Any] = []
        self.written: list[list[array[int]]] = []
        self.m = shmmap.ShmMap.create(
            unique_name(), capacity=entries, ephemeral=True, shards=shards
        )
        try:
            self.m.set_many((key_of(n), turn_value(0)) for n in range(entries))
            self.pool = WorkerPool(job(self.m.name), 1 + writers, cores)
        except BaseException:
            remove(self.m)
            raise
        self.writers = range(1, 1 + writers)

    def repeat(self, number: int) -> None:
        """Write, and read it all, for a while."""
        if self.way == NOBODY:
            self.written.append(self.pool.run(self.seconds, self.writers))
            return
        read, *written = self.pool.run(self.seconds)
        self.read.append(read)
        self.written.append(written)

    def writing(self) -> dict[str, list[float]]:
        """Return the figures of the writers: a number for each repetition."""
        return {
            "pause_ns": [float(max(map(max, each))) for each in self.written],
            "writes_per_s": [
                round(sum(len(times) / sum(times) for times in each) * 1e9, 1)
                for each in self.written
            ],
        }

    def close(self) -> None:
        """End the workers and remove the map."""
        self.pool.close()
        remove(self.m)
