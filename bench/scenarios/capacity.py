"""Does capacity=N hold N entries, and what does that promise cost?"""

from __future__ import annotations

from typing import NamedTuple

from ..core.peer import unique_name
from ..core.progress import Progress
from ..core.results import OURS, Row
from ..core.scenario import Plot, Scenario, Setup
from ..core.workloads import KEY_BYTES, VALUE_BYTES, key_of, value_of
from ..peers.own_map import remove
from .families import ROOM


class Headroom(NamedTuple):
    """Slots bought for each entry asked for, by default and with 64 shards: arithmetic only."""

    name: str
    title: str
    family: str = ROOM
    quick: bool = True
    plots: tuple[Plot, ...] = ()

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return 1

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Plan every capacity; return a row for each, with each number of shards."""
        from shmmap.memory.geometry import plan_capacity

        rows = []
        for capacity in setup.scale.capacities:
            for said in (None, 64):
                plan = plan_capacity(capacity, said, None, KEY_BYTES, False)
                samples = {
                    "slots": [plan.shards * plan.slots / capacity],
                    "amplification": [plan.total_bytes / capacity / (KEY_BYTES + VALUE_BYTES)],
                }
                point = {"entries": capacity, "shards": "default" if said is None else said}
                facts = {"shards_made": plan.shards, "slots_made": plan.shards * plan.slots}
                rows.append(Row.of(self.name, OURS, samples, point=point, facts=facts))
        progress.step()
        return rows


class Filled(NamedTuple):
    """Maps of capacity=N that are given N entries, each map with other keys and another seed."""

    name: str
    title: str
    shards: int | None
    family: str = ROOM
    quick: bool = True
    plots: tuple[Plot, ...] = ()

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return len(setup.scale.filled)

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Fill the maps; return a row for each capacity."""
        rows = []
        for capacity, maps in setup.scale.filled:
            refused, problem = 0, ""
            for trial in range(maps):
                full, wrong = fill_one(capacity, self.shards, f"{trial:x}-")
                refused += full
                problem = problem or wrong
            rows.append(Row.of(
                self.name, OURS, {"refused": [refused]}, problem,
                point={"entries": capacity}, facts={"maps": maps},
            ))
            progress.step()
        return rows


def fill_one(capacity: int, shards: int | None, prefix: str) -> tuple[int, str]:
    """Write `capacity` entries into a map of that capacity: (1 if it was full, problem)."""
    import shmmap

    m = shmmap.ShmMap.create(
        unique_name(), capacity=capacity, shards=shards, on_full="raise", ephemeral=True
    )
    try:
        for number in range(capacity):
            m[key_of(number, prefix)] = value_of(prefix)
        if len(m) != capacity:
            return 0, f"{capacity:,} entries written, {len(m):,} there"
        return 0, ""
    except shmmap.MapFull:
        return 1, ""
    finally:
        remove(m)


SCENARIOS: tuple[Scenario, ...] = (
    Headroom("headroom", "slots bought for each entry of capacity=N"),
    Filled("filled", "N entries into capacity=N, default shards", None),
    Filled("filled-64", "N entries into capacity=N, 64 shards", 64),
)
