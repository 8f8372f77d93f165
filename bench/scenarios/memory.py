"""How much memory does a full cache take, for each byte of what is in it?

Each is filled twice over first.
"""

from __future__ import annotations

import math
import random
from typing import Any, NamedTuple

from ..core.machine import SHM
from ..core.peer import unique_name
from ..core.progress import Progress
from ..core.results import OURS, Row
from ..core.scenario import Plot, Scenario, Setup
from ..core.workloads import KEY_BYTES, SEED, key_of
from ..peers.own_map import remove
from .families import MEMORY

SIGMA = 1.0
CHUNKS = 20  # the fill is looked at so many times for each filling
GIVE_UP = 10  # fillings after which a shard that never evicted is a fault


class Memory(NamedTuple):
    """A full cache: on_full="evict", no TTL, entries of one size or of mixed sizes."""

    name: str
    title: str
    value_bytes: int  # of every value; with `mixed`: on average
    value_size: int | None  # what the map is told
    mixed: bool = False

    family: str = MEMORY
    quick: bool = True
    plots: tuple[Plot, ...] = ()

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return 1

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Fill a map twice over; return one row."""
        import shmmap

        size = setup.scale.memory_bytes
        m = shmmap.ShmMap.create(
            unique_name(), size=size, on_full="evict", value_size=self.value_size, ephemeral=True
        )
        try:
            sizes = Sizes(self.value_bytes, self.mixed)
            written, problem = fill(m, sizes, size // (KEY_BYTES + self.value_bytes) // CHUNKS + 1)
            facts, wrong = look(m, sizes)
        finally:
            remove(m)
        progress.step()
        amplification = facts["allocated_bytes"] / facts["payload_bytes"]
        return [Row.of(
            self.name, OURS, {"amplification": [amplification]}, problem or wrong,
            facts={"written": written, **facts},
        )]


def look(m: Any, sizes: Sizes) -> tuple[dict[str, int], str]:
    """Compare the pages that the map holds with the entries that it gives back."""
    entries = payload = 0
    problem = ""
    for key, value in m.items():
        entries += 1
        payload += len(key) + len(value)
        if value != sizes.value(int(key[1:])):
            problem = problem or f"{key} has a wrong value of {len(value)} bytes"
    stats = m.stats()
    if stats.live_bytes != payload:
        problem = problem or f"stats say {stats.live_bytes:,} live bytes, items have {payload:,}"
    if listed_bytes(m.name) > stats.allocated_bytes:
        problem = problem or f"/dev/shm has {listed_bytes(m.name):,} bytes, stats say less"
    facts = {
        "entries": entries,
        "evicted": stats.evicted,
        "payload_bytes": payload,
        "allocated_bytes": stats.allocated_bytes,
        "size_bytes": stats.size_bytes,
        "free_slots": stats.free_slots,
        "slots": stats.slots,
        "shards": len(stats.shard_entries),
    }
    return facts, problem


class Sizes:
    """The sizes of values: all the same, or log-normal with a given mean."""

    def __init__(self, mean: int, mixed: bool) -> None:
        self.mean = mean
        self.mixed = mixed
        self.drawn: list[int] = []
        self.random = random.Random(SEED)
        self.block = bytes(n % 251 for n in range(mean if not mixed else 200 * mean))

    def value(self, number: int) -> bytes:
        """Return the value of entry `number`."""
        if not self.mixed:
            return self.block
        while len(self.drawn) <= number:
            # The mean of a log-normal is exp(mu + sigma^2 / 2).
            drawn = self.random.lognormvariate(math.log(self.mean) - SIGMA**2 / 2, SIGMA)
            self.drawn.append(max(1, round(drawn)))
        return self.block[: self.drawn[number]]


def fill(m: Any, sizes: Sizes, chunk: int, first: int = 0) -> tuple[int, str]:
    """Write new entries, from number `first` on, until every shard evicts, then as many again:
    (written, problem)."""
    written = full_at = 0
    before = evicted_by_shard(m)
    while not full_at or written < 2 * full_at:
        for number in range(first + written, first + written + chunk):
            m[key_of(number)] = sizes.value(number)
        written += chunk
        evicted = [now - was for now, was in zip(evicted_by_shard(m), before, strict=True)]
        if not full_at and min(evicted) > 0:
            full_at = written
        if not full_at and written > GIVE_UP * CHUNKS * chunk:
            quiet = evicted.count(0)
            return written, f"{quiet} shard(s) evicted nothing in {written:,} writes"
    return written, ""


def evicted_by_shard(m: Any) -> list[int]:
    """Read how many entries each shard has evicted: stats() gives the sum only."""
    from shmmap.memory.layout import constants

    at = constants()["S_EVICTED"] >> 3
    found = []
    for mapping in m.attachment.mappings:
        with memoryview(mapping.buffer).cast("B").cast("Q") as words:
            found.append(words[at])
    return found


def listed_bytes(name: str) -> int:
    """Add up the pages behind a map's files as the file system has them."""
    whole = f"shmmap.{name}"
    return sum(
        entry.stat().st_blocks * 512
        for entry in SHM.iterdir()
        if (own := entry.name.removeprefix("sem.")) == whole or own.startswith(whole + ".")
    )


SCENARIOS: tuple[Scenario, ...] = (
    Memory("memory-64", "64 B of payload, value_size=48", 48, 48),
    Memory("memory-116", "116 B of payload, value_size=100", 100, 100),
    Memory("memory-116-default", "116 B of payload, default slots", 100, None),
    Memory("memory-1040", "1,040 B of payload, value_size=1024", 1024, 1024),
    Memory("memory-mixed", "log-normal values, mean 500 B, default slots", 500, None, True),
)
