"""The table of the `rates` scenarios, for docs/guide/rates.md."""

from __future__ import annotations

from typing import Any

from ..core.results import Row
from .tables import measured_on, rows_of, union

HIT, CROWD = SCENARIOS = ("rates", "rates-processes")
NAMES = {
    "shmmap": "**`RateLimiter`**", "limits, shmmap": "limits, `shmmap://`",
    "limits, redis": "limits, redis, unix socket",
    "limits, memcached": "limits, memcached, unix socket",
    "limits, memory": "limits, `memory://`",
}


def table(results: dict[str, Any]) -> str:
    """Write the table, a line for each algorithm of each limiter, and what it has."""
    alone, crowd = (_sound(results, scenario) for scenario in SCENARIOS)
    facts = next((row.facts for row in crowd.values()), {})
    processes, limit = facts.get("processes", 0), facts.get("limit", 0)
    rows = []
    for algorithm in union(at[0] for at in (*alone, *crowd)):
        for kind, name in NAMES.items():
            one, many = alone.get((algorithm, kind)), crowd.get((algorithm, kind))
            if one or many:
                cells = [_us(one, "ns"), _us(one, "p99_ns"), _number(many, "per_s"),
                         _number(many, "let_through")]
                rows.append(f"| {name} | {algorithm} | {' | '.join(cells)} |")
    return "\n".join([
        f"One hit of a process that is alone, and of {processes} processes; medians of one run "
        f"({measured_on(results)}). In the last column all of them hit one key "
        f"{facts.get('hits_of_one_key', 0):,} times, where the limit is {limit:,}:",
        "",
        f"| | algorithm | a hit | 99 of 100 within | hits/s, {processes} processes | let through |",
        "|---|---|---:|---:|---:|---:|",
        *rows,
        "",
        "`python -m bench --full --only rates` measures it.",
    ])


def _sound(results: dict[str, Any], scenario: str) -> dict[tuple[str, str], Row]:
    """Return the rows that answered rightly, by algorithm and limiter."""
    rows = [row for row in rows_of(results, scenario) if not row.problem]
    return {(row.point["algorithm"], row.peer): row for row in rows}


def _us(row: Row | None, figure: str) -> str:
    return f"{row.median(figure) / 1e3:.1f} us" if row else "-"


def _number(row: Row | None, figure: str) -> str:
    return f"{row.median(figure):,.0f}" if row else "-"
