"""All hit ratios of a run in one table."""

from __future__ import annotations

from typing import Any

from ..core.results import HIT_PREFIX, OURS, Row
from .tables import Table, union


def overview(results: dict[str, Any]) -> Table | None:
    """Return all hit ratios in one table, a line for each trace and size; None: there are none."""
    rows = [Row(**row) for row in results["rows"] if "hit_percent" in row["samples"]]
    if not rows:
        return None
    caches = union(row.peer for row in rows)
    found = {(row.scenario, row.point["entries"], row.peer): row for row in rows}
    lines = []
    for scenario, entries in dict.fromkeys((r.scenario, r.point["entries"]) for r in rows):
        line = [scenario.removeprefix(HIT_PREFIX), f"{entries:,}"]
        for cache in caches:
            row = found.get((scenario, entries, cache))
            line.append("-" if row is None else f"{row.median('hit_percent'):.1f}")
        ours = found.get((scenario, entries, OURS))
        lines.append([*line, "" if ours is None else f"{ours.median('over_lru'):+.1f}"])
    return Table(
        ["hits in 100 reads", "entries", *caches, "shmmap less LRU"], lines, 1,
        ("every cache holds as many entries as the map with its default shards does",),
    )
