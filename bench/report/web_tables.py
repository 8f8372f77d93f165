"""The tables of the `web` scenarios: one for README.md, all of them for bench/README.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.results import Row
from .tables import measured_on, rows_of

FLASK = {
    "dict": "a dict in each worker (SimpleCache)", "shmmap": "**shmmap**",
    "redis": "redis, unix socket", "diskcache.Cache": "diskcache, in /dev/shm",
    "gunicorn stash": "gunicorn's stash",
}
DJANGO = {
    **FLASK, "dict": "locmem, in each worker",
    "diskcache.FanoutCache": "diskcache's DjangoCache, in /dev/shm",
}
TITLES = {
    "web": "Flask, `gunicorn -w 4` (sync workers)",
    "web-gthread": "Flask, `gunicorn -w 4 -k gthread --threads 4`",
    "web-gevent": "Flask, `gunicorn -w 4 -k gevent`",
    "web-django": "Django, `gunicorn -w 4` (sync workers), cached sessions",
}
HEADS = ("requests/s", "median", "99 of 100 within", "CPU a request", "memory a worker")
COUNTED = "counted_percent"


def short(results: dict[str, Any]) -> str:
    """Write the table of Flask's sync workers."""
    return "\n".join([
        f"A Flask site under `gunicorn -w 4`, by its cache ({measured_on(results)}; each "
        "request reads and writes a session, reads a page of 2 kB, and counts):",
        "",
        *_table(results, "web", FLASK),
        "",
        "`python -m bench --full --only web` measures it (needs wrk), and "
        "[threads, gevent and Django](bench/README.md#a-web-application).",
    ])


def whole(results: dict[str, Any]) -> str:
    """Write the tables of all that were measured, with what each cache counted."""
    lines = [f"Medians of one run ({measured_on(results)}).", ""]
    for scenario, title in TITLES.items():
        names = DJANGO if scenario == "web-django" else FLASK
        if table := _table(results, scenario, names, COUNTED):
            lines += [f"**{title}**", "", *table, ""]
    return "\n".join([
        *lines,
        "*counted*: of a hundred requests that were answered, how many the site's counter had, at "
        "the worst; a dict in each worker has no count of all.",
    ])


def _table(
    results: dict[str, Any], scenario: str, names: Mapping[str, str], fact: str = ""
) -> list[str]:
    """Lay out a scenario's sound rows, in the order of `names`; of none, no table."""
    sound = {row.peer: row for row in rows_of(results, scenario) if not row.problem}
    rows = [f"| {title} | {' | '.join(_cells(sound[peer], fact))} |"
            for peer, title in names.items() if peer in sound]
    heads = ["cache", *HEADS, *["counted"] * bool(fact)]
    dashes = "|---|" + "---:|" * (len(heads) - 1)
    return [f"| {' | '.join(heads)} |", dashes, *rows] if rows else []


def _cells(row: Row, fact: str) -> list[str]:
    cells = [
        f"{row.median('per_s'):,.0f}", f"{row.median('p50_ns') / 1e6:.1f} ms",
        f"{row.median('p99_ns') / 1e6:.1f} ms", f"{row.median('cpu_us'):,.0f} us",
        f"{row.median('bytes') / 1e6:.0f} MB",
    ]
    if fact:
        counted = row.facts.get(fact)
        cells.append("-" if counted is None else f"{counted:.0f} %")
    return cells
