"""The tables of the `tiered` scenarios, for docs/guide/tiered.md."""

from __future__ import annotations

from typing import Any

from ..core.results import Row
from .tables import measured_on, rows_of

SCENARIOS = ("tiered", "tiered-hit", "tiered-news", "tiered-storm", "tiered-write")
_NAMES = {"shmmap": "**`Tiered`**", "shmmap, write behind": "`write=\"behind\"`",
          "shmmap, the map alone": "the map alone"}


def table(results: dict[str, Any]) -> str:
    """Return the tables, with where they were measured."""
    crowd, hit, news, storm, write = (
        {row.peer: row for row in rows_of(results, scenario) if not row.problem}
        for scenario in SCENARIOS
    )
    facts = next(iter(crowd.values())).facts
    lines = [
        f"Medians of one run ({measured_on(results)}, redis on a unix socket). "
        f"{facts['machines']} machines, {facts['workers']} workers in all, {facts['keys']:,} keys "
        f"by a Zipf law, {facts['writes_in_100']:g} % writes; then a read of what is copied, by "
        "one process; and until a write on one machine is read on another, which asks all the "
        "time.",
        "",
        "| | operations/s | read, median | 99 of 100 | to the store/s | reads that did not reach "
        "it | memory | a hit | news, median | 99 of 100 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for peer, row in crowd.items():
        lines.append("| " + " | ".join((
            _NAMES.get(peer, peer), f"{row.median('per_s'):,.0f}", _time(row, "p50_ns"),
            _time(row, "p99_ns"), f"{row.median('asked_per_s'):,.0f}",
            f"{row.median('near_percent'):.1f} %" if "near_percent" in row.samples else "-",
            f"{row.median('bytes') / 1e6:,.0f} MB", _time(hit.get(peer), "ns"),
            _time(news.get(peer), "p50_ns"), _time(news.get(peer), "p99_ns"),
        )) + " |")
    for row in storm.values():
        lines += ["", f"Where {row.facts['keys']:,} copies change at once, all of them are taken "
                  f"out within {row.median('ms'):,.0f} ms, the writing of them included."]
    writes = [
        f"{_NAMES.get(peer, peer)} {_time(row, 'p50_ns')} ({_time(row, 'p99_ns')}), "
        f"{row.median('per_s'):,.0f} a second in the store" for peer, row in write.items()
    ]
    if writes:
        lines += ["", f"A write of one process (99 of 100): {'; '.join(writes)}."]
    return "\n".join([*lines, "", "`python -m bench tiered --full` measures it."])


def _time(row: Row | None, figure: str) -> str:
    """Write a figure of nanoseconds."""
    if row is None or figure not in row.samples:
        return "-"
    ns = row.median(figure)
    return f"{ns:,.0f} ns" if ns < 1e4 else f"{ns / 1e3:,.0f} us" if ns < 1e7 else (
        f"{ns / 1e6:,.0f} ms")
