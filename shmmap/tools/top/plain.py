"""`shmmap top` where it is no live screen: lines of text, for a pipe or a log."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ...lifecycle.timings import in_units
from ...printable import human, printable
from .readings import Line
from .text import percent, rate

HEADS = ("NAME", "ENTRIES", "FILL", "HIT", "READS/s", "WRITES/s", "DELETES/s", "EVICTED/s",
         "EXPIRED/s", "WAITS/s", "WAIT p99", "WORKERS", "ALLOCATED")
RATES = ("writes", "deletes", "evicted", "expired", "waits")


def cells(line: Line) -> tuple[str, ...]:
    """Return what is said of a map, by HEADS."""
    now = line.now
    name = printable(now.label)
    workers = "?" if now.workers is None else str(len(now.workers))
    if not now.counts:
        return (name, now.state, *[""] * 9, workers, human(now.allocated))
    rates = [rate(line.per_s[kind]) if line.per_s else "" for kind in RATES]
    return (name, f"{now.entries:,}", f"{now.fill:.0%}",
            percent(line.hit_ratio) if line.per_s else "",
            rate(line.reads) if line.per_s else "", *rates, _wait(line), workers,
            human(now.allocated))


def _wait(line: Line) -> str:
    waits = line.latency.get("lock_wait")
    return in_units(waits.percentile(99)) if waits and waits.total and line.per_s else ""


def table(lines: Iterable[Line], stamp: bool = False) -> str:
    """Return lines of columns; `stamp`: with the time before."""
    rows = [HEADS, *map(cells, lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    texts = [
        "  ".join([row[0].ljust(widths[0]),
                   *(cell.rjust(width) for cell, width in
                     zip(row[1:], widths[1:], strict=True))]).rstrip() for row in rows
    ]
    return "\n".join([*([time.strftime("%H:%M:%S")] if stamp else []), *texts])
