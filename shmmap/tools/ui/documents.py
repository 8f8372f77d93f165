"""What the page is told about maps, as JSON.

Text that others have written is made printable here: it has no line ends, no escape sequences and
no marks that turn the direction of what follows. The page sets it as text, never as markup.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

from ...lifecycle.stats import WAITS
from ...memory.layout import constants
from ...printable import printable
from .. import describing, figures, findings, inspection, overview
from ..seen import SeenMap, SeenShard
from ..top.readings import Line

SCHEMA = 1
MAPS_AT_MOST = 500
COLUMNS = ("label", "entries", "fill", "live_bytes", "waits", "evicted", "expired", "repairs",
           "problem")
"""Of a shard, in this order; all but the first are null where it cannot be read, the last where it
can. `waits` are those for its lock."""
_FIRST = constants()["TIMED_SHIFT"]


def encoded(document: dict[str, Any]) -> bytes:
    """Write a document as ASCII, without line ends."""
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()


def of_maps(lines: list[Line], interval_s: float, problem: str | None) -> dict[str, Any]:
    """Describe all maps in a line each; `problem`: why they cannot be listed."""
    return {
        "schema": SCHEMA, "time": time.time(), "interval": interval_s, "problem": problem,
        "maps": [_row(line) for line in lines[:MAPS_AT_MOST]],
        "more": max(0, len(lines) - MAPS_AT_MOST),
    }


def _row(line: Line) -> dict[str, Any]:
    now = line.now
    readable = bool(now.counts)
    return {
        "label": printable(now.label), "state": now.state, "is_readable": readable,
        "entries": now.entries if readable else None, "fill": now.fill if readable else None,
        "hit_ratio": line.hit_ratio, "history": [
            None if ratio is None else round(ratio, 4) for ratio in line.history],
        "per_s": {name: round(rate, 2) for name, rate in line.per_s.items()},
        "workers": None if now.workers is None else len(now.workers),
        "allocated_bytes": now.allocated, "size_bytes": now.size if readable else None,
        "moving": now.moving or None,
    }


def of_map(seen: SeenMap | None, line: Line | None, label: str) -> dict[str, Any]:
    """Describe one map in all that the page shows of it; None: there is none of that label.

    Bucket `n` of `histograms` counts what took less than 2**n ns and fits no earlier one.
    """
    if seen is None:
        return {"label": printable(label), "state": "gone", "problem": "there is no such map now",
                "is_readable": False}
    about = {
        "label": printable(seen.label), "state": seen.state,
        "problem": printable(seen.problem) or None, "owner": findings.user_name(seen.owner),
        "engine": overview.engine_of(seen), "layout": overview.layout_of(seen),
        "objects": len(seen.objects), "allocated_bytes": seen.allocated,
    }
    if seen.control is None or line is None or not line.now.counts:
        return {**about, "is_readable": False}
    return {
        **about, "is_readable": True, "counts": dict(line.now.counts),
        "histograms": [
            {"name": name.replace("_", " "), "buckets": [0] * _FIRST + list(one.counts)}
            for name, one in line.now.latency.items()],
        "events": [{**event._asdict(), "detail": event.text} for event in line.now.events],
        "live_bytes": line.now.live_bytes, "slots": line.now.slots,
        "parameters": {name: printable(value) if isinstance(value, str) else value
                       for name, value in describing.parameters_of(seen).items()},
        "geometry": describing.geometry_of(seen),
        "shards": {"columns": COLUMNS, "rows": _shards(inspection.shards_of(seen))},
        "workers": None if seen.workers is None else list(_workers(seen)),
        "unknown": printable(seen.unknown) or None,
    }


def _shards(shards: list[SeenShard]) -> list[list[Any]]:
    moves = len({shard.generation for shard in shards}) > 1
    rows: list[list[Any]] = []
    for shard in shards:
        label = f"{shard.generation}.{shard.number}" if moves else str(shard.number)
        header, slots = shard.header, shard.shape.slots
        if header is None:
            rows.append([label, *[None] * (len(COLUMNS) - 2), printable(shard.problem)])
            continue
        used = min(max(0, slots - header.FREE_SLOTS), slots)
        rows.append([label, shard.entries, round(used / slots, 4), header.LIVE_BYTES,
                     sum(header[word] for word in WAITS), header.EVICTED, header.EXPIRED,
                     header.REPAIRS, None])
    return rows


def _workers(seen: SeenMap) -> Iterable[dict[str, Any]]:
    for _, one in figures.workers_of(seen):
        process = one["process"]
        yield {**one, "process": None if process is None else printable(process)}
