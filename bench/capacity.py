"""What it costs that capacity=N holds N entries, and whether it does."""

from __future__ import annotations

from typing import Any, NamedTuple

from .peers import Peer, unique_name
from .progress import Progress
from .workloads import KEY_BYTES, VALUE_BYTES, Workload, key_of, value_of


class Headroom(NamedTuple):
    """Slots bought for each entry asked for, by default and with 64 shards: arithmetic only."""

    name: str
    title: str

    def steps(self, workload: Workload, peers: list[type[Peer]]) -> int:
        """Count the progress steps."""
        return 1

    def run(
        self, workload: Workload, peers: list[type[Peer]], progress: Progress
    ) -> list[dict[str, Any]]:
        """Plan every capacity; gives a row for each, with each number of shards."""
        from shmmap.geometry import plan_capacity

        rows = []
        for capacity in workload.scale.capacities:
            for shards in (None, 64):
                plan = plan_capacity(capacity, shards, None, KEY_BYTES, False)
                rows.append({
                    "scenario": self.name,
                    "peer": "shmmap",
                    "capacity": capacity,
                    "shards_said": shards,
                    "shards": plan.shards,
                    "slots": plan.shards * plan.slots,
                    "slots_an_entry": plan.shards * plan.slots / capacity,
                    "bytes_to_payload": plan.total_bytes / capacity / (KEY_BYTES + VALUE_BYTES),
                    "problem": "",
                })
        progress.step()
        return rows


class Filled(NamedTuple):
    """Maps of capacity=N that are given N entries, each map with other keys and another seed."""

    name: str
    title: str
    shards: int | None

    def steps(self, workload: Workload, peers: list[type[Peer]]) -> int:
        """Count the progress steps."""
        return len(workload.scale.filled)

    def run(
        self, workload: Workload, peers: list[type[Peer]], progress: Progress
    ) -> list[dict[str, Any]]:
        """Fill the maps; gives a row for each capacity."""
        rows = []
        for capacity, maps in workload.scale.filled:
            refused, problem = 0, ""
            for trial in range(maps):
                full, wrong = fill_one(capacity, self.shards, f"{trial:x}-")
                refused += full
                problem = problem or wrong
            rows.append({
                "scenario": self.name, "peer": "shmmap", "capacity": capacity,
                "shards_said": self.shards, "maps": maps, "refused": refused, "problem": problem,
            })
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
        m.unlink()
        m.close()


def metrics(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Name the figures: "headroom/1000 entries, 64 shards", "filled-64/1000 entries refused"."""
    found: dict[str, float] = {}
    for row in rows:
        if row["problem"]:
            continue
        if "refused" in row:
            found[f"{row['scenario']}/{row['capacity']} entries refused"] = row["refused"]
        else:
            shards = "64 shards" if row["shards_said"] else "default shards"
            label = f"{row['scenario']}/{row['capacity']} entries, {shards}"
            found[label] = row["slots_an_entry"]
    return found


SCENARIOS = (
    Headroom("headroom", "slots bought for each entry of capacity=N"),
    Filled("filled", "N entries into capacity=N, default shards", None),
    Filled("filled-64", "N entries into capacity=N, 64 shards", 64),
)
