"""The table of the `machine-limits` scenario, for docs/guide/rates.md."""

from __future__ import annotations

from typing import Any

from .tables import measured_on, rows_of

SCENARIOS = ("machine-limits",)
_NAMES = {
    "shmmap": '**`machines="store"`**', "shmmap, in shares": '**`machines="shares"`**',
    "shmmap, the map alone": "the map alone, each machine its own",
    "redis-py, a script": "redis-py, a script of INCR and EXPIRE",
    "limits, redis": "limits, redis",
}


def table(results: dict[str, Any]) -> str:
    """Return the table, with where it was measured."""
    rows = [row for row in rows_of(results, SCENARIOS[0]) if not row.problem]
    facts = rows[0].facts
    lines = [
        f"Medians of one run ({measured_on(results)}, redis on a unix socket): "
        f"{facts['machines']} machines, {facts['workers']} workers in all, fixed windows. In the "
        f"last column all of them hit one key {facts['hits_of_one_key']:,} times, where the limit "
        f"is {facts['limit']:,}:",
        "",
        "| | hits/s | a hit, median | 99 of 100 within | to the store/s | let through |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        lines.append("| " + " | ".join((
            _NAMES.get(row.peer, row.peer), f"{row.median('per_s'):,.0f}",
            *(f"{row.median(figure) / 1e3:,.1f} us" for figure in ("p50_ns", "p99_ns")),
            f"{row.median('asked_per_s'):,.0f}", f"{row.median('let_through'):,.0f}",
        )) + " |")
    return "\n".join([*lines, "", "`python -m bench --full --only machine-limits` measures it."])
