"""Does a full cache hold as much after ten times its entries have come and gone?

They are overwritten, deleted, left to expire; then the memory is measured again: what an allocator
would have lost to fragments by then.
"""

from __future__ import annotations

import math
import random
import time
from typing import Any, NamedTuple

from ..core.peer import unique_name
from ..core.progress import Progress
from ..core.results import OURS, Row
from ..core.scenario import Plot, Scenario, Setup
from ..core.workloads import KEY_BYTES, SEED, key_of
from ..peers.own_map import remove
from .families import MEMORY_AFTER_CHURN
from .memory import SIGMA, Sizes, fill, look

TIMES = 10  # operations of the churn for each entry that the full map held
DELETES = 0.15  # of the operations
EXPIRIES = 0.15  # of the operations, where there are any
EXPIRED_S = 1e-6  # a ttl that is over at the clock's next 64th of a second
TICK_S = 1 / 64
FIRST = 10**12  # number of the churn's first key: those of the fills come before


class MemoryChurn(NamedTuple):
    """A full cache, as in memory.py, measured three times: filled; in the churn, with entries of
    all sizes; filled again. With `expiries` from the start in a map that has deadlines."""

    name: str
    title: str
    value_bytes: int
    value_size: int | None
    mixed: bool = False
    expiries: bool = False
    family: str = MEMORY_AFTER_CHURN
    quick: bool = False
    plots: tuple[Plot, ...] = ()

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return 3

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Return a row for each of the three moments."""
        import shmmap

        scale = setup.scale
        # what is fixed weighs more in a small map: long entries are few enough for a large one
        size = scale.churn_bytes if self.value_bytes < 500 else scale.memory_bytes
        m = shmmap.ShmMap.create(
            unique_name(), size=size, on_full="evict", value_size=self.value_size,
            sweep_interval=None, ephemeral=True,
        )
        try:
            sizes = Sizes(self.value_bytes, self.mixed)
            chunk = size // (KEY_BYTES + self.value_bytes) // 20 + 1
            if self.expiries:
                reserve_deadlines(m)
            written, problem = fill(m, sizes, chunk)
            rows = [self._row("filled", m, sizes, problem)]
            progress.step()
            churned = Churned(self.value_bytes, sizes)
            churned.churn(m, len(m), self.expiries)
            rows.append(self._row("in churn", m, churned, ""))
            progress.step()
            m.delete_many(map(key_of, churned.lengths))
            _, problem = fill(m, sizes, chunk, written)
            rows.append(self._row("after churn", m, sizes, problem))
            progress.step()
        finally:
            remove(m)
        return rows

    def _row(self, when: str, m: Any, sizes: Any, problem: str) -> Row:
        time.sleep(2 * TICK_S if self.expiries else 0)
        m.sweep()  # what has expired counts for nobody
        facts, wrong = look(m, sizes)
        stats = m.stats()
        amplification = facts["allocated_bytes"] / facts["payload_bytes"]
        if abs(stats.amplification - amplification) > 1e-9:
            wrong = wrong or f"stats say {stats.amplification}, the entries {amplification}"
        if found := m.check():
            wrong = wrong or f"check: {found[0]}"
        return Row.of(
            self.name, OURS, {"amplification": [amplification]}, problem or wrong,
            point={"when": when}, facts={**facts, "expired": stats.expired},
        )


class Churned:
    """Entries that are overwritten with values of other sizes, deleted, and left to expire."""

    def __init__(self, mean: int, before: Sizes) -> None:
        self.before = before
        self.lengths: dict[int, int] = {}  # of the value written last, by the key's number
        self.block = bytes(n % 253 for n in range(60 * mean))
        self.random = random.Random(SEED)
        self.mu = math.log(mean) - SIGMA**2 / 2

    def value(self, number: int) -> bytes:
        """Return the value of entry `number`, of the churn's or of before."""
        if number < FIRST:
            return self.before.value(number)
        return self.block[: self.lengths[number]]

    def churn(self, m: Any, entries: int, expiries: bool) -> None:
        """Do ten operations for each entry, on so many keys; three in four are overwrites, as
        far as the map has not evicted what they would overwrite."""
        draw = self.random
        expired = EXPIRIES if expiries else 0.0
        for _ in range(TIMES * entries):
            number = FIRST + draw.randrange(entries)
            key, action = key_of(number), draw.random()
            if action < DELETES:
                m.delete(key)
                continue
            length = max(1, min(len(self.block), round(draw.lognormvariate(self.mu, SIGMA))))
            self.lengths[number] = length
            value = self.block[:length]
            if action < DELETES + expired:
                m.set(key, value, ttl=EXPIRED_S)
            else:
                m[key] = value


def reserve_deadlines(m: Any) -> None:
    """Write entries with a ttl until every shard has the pages for deadlines."""
    number = 0
    while not all(shard.has_deadlines() for shard in m.attachment.shards):
        m.set(key_of(number), b"", ttl=EXPIRED_S)
        number += 1


SCENARIOS: tuple[Scenario, ...] = (
    MemoryChurn("memory-churn-64", "64 B of payload, value_size=48, after churn", 48, 48),
    MemoryChurn("memory-churn-116", "116 B of payload, value_size=100, after churn", 100, 100),
    MemoryChurn("memory-churn-1040", "1,040 B of payload, value_size=1024, after churn", 1024,
                1024),
    MemoryChurn("memory-churn-mixed", "log-normal values, mean 500 B, default slots, after churn",
                500, None, True),
    MemoryChurn("memory-churn-ttl-64", "64 B of payload, after churn with expiries", 48, 48,
                expiries=True),
    MemoryChurn("memory-churn-ttl-116", "116 B of payload, after churn with expiries", 100, 100,
                expiries=True),
    MemoryChurn("memory-churn-ttl-1040", "1,040 B of payload, after churn with expiries", 1024,
                1024, expiries=True),
    MemoryChurn("memory-churn-ttl-mixed", "log-normal values, after churn with expiries", 500,
                None, True, True),
)
