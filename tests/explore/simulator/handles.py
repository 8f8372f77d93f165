"""The handle that simulated processes use: the engine's, and how it reads through a near cache."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from shmmap.errors import EditConflict
from shmmap.locks.editing import Edits
from shmmap.operations._near_cy import LINEARIZABLE
from shmmap.operations._restore_cy import merge_raw, write_raw
from shmmap.operations._takes_cy import Takes
from shmmap.shard._status import WRITTEN
from shmmap.values._codecs_cy import pack as pack_value
from shmmap.values._keys_cy import pack as pack_key

from ..judges.seen import NEAR

NEAR_SIZE = 8


class SimulatedHandle(Takes, Edits):
    """A handle on a simulated map; its first call in NEAR gives it a near cache."""

    _lock_timeout = 5.0

    def __init__(self) -> None:
        self.gave_up: set[int] = set()  # workers whose last read did not come to an end

    def contains(self, key: str) -> bool:
        """Tell whether a key is there."""
        return key in self

    def merge(self, key: str, value: Any, limit: int, ttl: float | None) -> bool:
        """Write an entry as a merge does, if the one that is there is older than `limit`."""
        deadline_ns = self.deadline_ns(ttl)
        return write_raw(self, *pack_key(key), *pack_value(value), deadline_ns, limit)

    def bring(self, key: str) -> bool:
        """Merge an entry that was written before all others, in a map with tombstones; tell whether
        that wrote it."""
        return merge_raw(self, *pack_key(key), *pack_value(b"old"), 0, 1) == WRITTEN

    def lock(self, key: str, **options: Any) -> Any:
        """Have editors come as they like: that nothing is lost must not rest on the lock."""
        return nullcontext()

    def change(self, name: str, key: str, delta: float, ttl: float | None) -> Any:
        """Add to a number by `apply`, or in an `edit`; None: that was a conflict."""
        if name == "apply":
            return self.apply(key, lambda number: number + delta, 0)
        try:
            with self.edit(key, 0) as number:
                number += delta
            return number.value
        except EditConflict:
            return None

    def fetch(self, key: Any, found: Any, wants_value: int) -> Any:
        """Read as the engine does; note who gave up."""
        raw = super().fetch(key, found, wants_value)
        worker = self.clock.machine.current
        if worker is not None:
            (self.gave_up.add if raw is None else self.gave_up.discard)(worker.number)
        return raw

    def read_near(self, name: str, key: str, default: Any, bound_ns: int = 0) -> Any:
        """Return (value, version), and whether no look at shared memory confirmed it."""
        if self.near is None:
            self._use_near(NEAR_SIZE, False, LINEARIZABLE)
        worker = self.clock.machine.current
        number, before = (worker.number, worker.steps) if worker is not None else (-1, -2)
        self.gave_up.discard(number)
        entry = self.near_read(key, bound_ns if name == "bounded" else NEAR[name])
        late = number in self.gave_up or (  # all it did was to read the clock
            name == "bounded" and worker is not None and worker.steps - before <= 1
        )
        if entry is None:
            return (default, 0), late
        return (self.value_in(entry, key), entry.version), late

