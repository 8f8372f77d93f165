"""The benchmarks' page of the documentation, made of the results that are kept.

Every figure comes from bench/results/*.json; docs/site/hooks.py puts the page into the site.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..core.results import HIT_PREFIX
from . import hit_ratio_table, readme, tables
from .tables import Table

RESULTS = Path(__file__).resolve().parents[1] / "results"
PICTURES = {  # where the page finds them, and where they are
    "benchmarks/processes.svg": RESULTS / "readme.svg",
    "benchmarks/zipf.svg": RESULTS / "plots/hit-zipf-0.9.svg",
    "benchmarks/memory.svg": RESULTS / "plots/memory-curve.svg",
}
TRACES = 10_000  # entries of the cache whose hit ratios are shown


def load(name: str) -> dict[str, Any]:
    """Read a run's results."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def page() -> str:
    """Write the page."""
    full, hits, cache, snapshots = map(load, ("full", "hits", "cache", "snapshots"))
    return "\n".join([
        "# Benchmarks", "",
        "The authors of shmmap wrote these. One machine, one run, two cores. "
        "[How it is measured](bench-method.md) lists the bias and the limits first; read it "
        "before you trust a ratio. `python -m bench --quick` measures your machine.", "",
        "## Time of one operation", "",
        f"Nanoseconds an operation, medians, 16-byte `str` keys, 100-byte values; {_what(full)}:",
        "", *readme.table(full), "",
        "`dict` and `TTLCache` share nothing between processes.", "",
        "![95 % reads, by the number of processes](benchmarks/processes.svg)", "",
        "## Where shmmap loses", "",
        "Each scenario in which another store had the better figure. "
        "[Why](bench-method.md#where-we-lose).", "", readme.losses(full), "",
        "## Hit ratios of a map that evicts", "",
        f"Hits in 100 reads, caches of {TRACES:,} entries; {_what(hits)}.", "",
        *_markdown(_of_size(hits, TRACES)), "",
        "![Hits in 100 reads, Zipf 0.9](benchmarks/zipf.svg)", "",
        "## Near cache, single flight, snapshots", "",
        f"The first two: {_what(cache)}. Snapshots: {_what(snapshots)}.", "",
        *_scenario(cache, "cache-near-get", ("ns", "p99_ns")), "",
        *_scenario(cache, "cache-crowd", ("calls", "ms")), "",
        *_scenario(snapshots, "cache-snapshot",
                   ("entries", "held_most_ns", "held_ns", "ms", "writes_per_s")), "",
        "## Memory", "",
        "Bytes held for each byte of keys and values, of a cache that is full; and the same "
        "entries in several stores:", "",
        *_memory(full), "",
        "![Memory for each byte of payload, by the size of entries](benchmarks/memory.svg)", "",
    ])


def _what(results: dict[str, Any]) -> str:
    """Say in a line what was measured where."""
    machine, engine = results["machine"], results["engine"]
    return (
        f"{engine['engine']} engine, revision {engine['revision'][:8]}, {machine['cores']} cores "
        f"of {machine['cpu']}, {machine['python'].split(' (')[0]}, {results['started'][:10]}"
    )


def _markdown(table: Table | None) -> list[str]:
    """Lay a table out for the page."""
    if table is None:
        return []
    lines = ["| " + " | ".join(table.heads) + " |",
             "|---" * table.left + "|" + "---:|" * (len(table.heads) - table.left)]
    return lines + ["| " + " | ".join(row) + " |" for row in table.rows]


def _columns(table: Table, wanted: Iterable[str]) -> Table:
    """Keep the first column and those that are wanted."""
    kept = [0, *(table.heads.index(head) for head in wanted)]
    return table._replace(
        heads=[table.heads[n] for n in kept], rows=[[row[n] for n in kept] for row in table.rows]
    )


def _scenario(results: dict[str, Any], scenario: str, wanted: Iterable[str]) -> list[str]:
    """Tell one scenario: its title, a few columns of its table, and what they are."""
    table = tables.table_of(results, scenario)
    said = [note for note in table.notes if note.partition(":")[0] in wanted]
    title = results["scenarios"][scenario]["title"]
    return [f"**{title[0].upper()}{title[1:]}**", "", *_markdown(_columns(table, wanted)), "",
            *(f"- {note}" for note in said)]


def _of_size(results: dict[str, Any], entries: int) -> Table | None:
    """Tell all hit ratios of caches of one size, each trace by its title."""
    table = hit_ratio_table.overview(results)
    if table is None:
        return None
    titles = {name.removeprefix(HIT_PREFIX): about["title"].partition(": ")[2]
              for name, about in results["scenarios"].items()}
    return table._replace(
        heads=["trace", *table.heads[2:]],
        rows=[[titles[row[0]], *row[2:]] for row in table.rows if row[1] == f"{entries:,}"],
    )


def _memory(results: dict[str, Any]) -> list[str]:
    """Tell the amplification of the scenarios of memory, a line each."""
    lines = ["| entries | memory to payload |", "|---|---:|"]
    for scenario, about in results["scenarios"].items():
        found = [row for row in tables.rows_of(results, scenario)
                 if row.peer == "shmmap" and "amplification" in row.samples and not row.point]
        lines += [f"| {about['title']} | {row.median('amplification'):.2f} |" for row in found]
    return lines
