"""`python -m bench readme RESULTS.json`: put a run's figures where they are told.

Into README.md a table and a plot, into bench/README.md the list of where shmmap lost. Of a run of
the `web` scenarios alone: their tables into README.md and bench/README.md. Of a run of the `rates`
scenarios alone, and of `machine-limits`: their tables into docs/guide/rates.md; of the `tiered`
ones, and of `partitions`: docs/guide/tiered.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..core.results import FORMAT, OURS, UNITS, Row
from ..core.source_tree import CHECKOUT
from . import limits_table, partitions_table, plots, rates_table, tiered_table, web_tables
from .tables import measured_on, rows_of

README, BENCH_README = CHECKOUT / "README.md", CHECKOUT / "bench/README.md"
RATES_PAGE = CHECKOUT / "docs/guide/rates.md"
TIERED_PAGE = CHECKOUT / "docs/guide/tiered.md"
PLOT = Path("bench/results/readme.svg")
START, END = "<!-- bench -->", "<!-- /bench -->"
WEB_START, WEB_END = "<!-- web -->", "<!-- /web -->"
LIMITS_START, LIMITS_END = "<!-- machine-limits -->", "<!-- /machine-limits -->"
RATES_START, RATES_END = "<!-- rates -->", "<!-- /rates -->"
TIERED_START, TIERED_END = "<!-- tiered -->", "<!-- /tiered -->"
PARTITIONS_START, PARTITIONS_END = "<!-- partitions -->", "<!-- /partitions -->"
LOST = 1.03  # so many times worse than another: nearer is a draw
PEERS = ("dict", "shmmap", "TTLCache+lock", "lmdb", "redis", "memcached", "Manager().dict")
ROWS = {
    "get-hot": "`get`, 64 keys over and over",
    "get-insertion": "`get`, 100,000 keys in the order written",
    "get-shuffled": "`get`, 100,000 keys in random order",
    "set-hot": "`set` of an existing key, 64 keys",
    "set-insertion": "`set` of an existing key, 100,000 keys in the order written",
    "set-shuffled": "`set` of an existing key, 100,000 keys in random order",
    "incr-hot": "`incr`, 64 counters",
}
# The first of these that was measured is the picture.
PICTURES = ("load-processes", "load-reads", "get-shuffled")


def table(results: dict[str, Any]) -> list[str]:
    """Write the lines of the table."""
    peers = [peer for peer in PEERS if peer in results["peers"]]
    lines = ["| | " + " | ".join(peers) + " |", "|---|" + "---:|" * len(peers)]
    for scenario, title in ROWS.items():
        figures = [results["metrics"].get(f"{scenario}/{peer} ns") for peer in peers]
        if any(figures):
            cells = ["-" if figure is None else f"{figure:,.0f}" for figure in figures]
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def picture(results: dict[str, Any]) -> plots.Picture | None:
    """Choose the picture, of the peers in the table only; None: none was measured."""
    drawn = plots.pictures(results)
    for scenario in PICTURES:
        if scenario in drawn:
            whole = drawn[scenario][0]
            return whole._replace(rows=[row for row in whole.rows if row.peer in PEERS])
    return None


def section(results: dict[str, Any]) -> str:
    """Write what stands between the marks."""
    lines = [
        f"Nanoseconds an operation, medians of one run ({measured_on(results)}; 16-byte str keys, "
        "100-byte values):",
        "",
        *table(results),
        "",
    ]
    if drawn := picture(results):
        lines += [f"![{drawn.plot.title}]({PLOT})", ""]
    lines.append(
        "`dict` and `TTLCache` share nothing between processes. `python -m bench --quick` measures "
        "it on your machine; [bench/README.md](bench/README.md) says what the figures leave out "
        "and where shmmap loses."
    )
    return "\n".join(lines)


def losses(results: dict[str, Any]) -> str:
    """List the scenarios in which another had a better first figure than shmmap, at any point."""
    lines = ["| scenario | lost to (at the worst point, times) |", "|---|---|"]
    for scenario, about in results["scenarios"].items():
        rows = [row for row in rows_of(results, scenario) if not row.problem]
        ours = {str(row.point): row for row in rows if row.peer == OURS}
        worst: dict[str, float] = {}
        for row in rows:
            factor = behind(ours.get(str(row.point)), row)
            if factor > LOST and not row.peer.startswith("("):  # no store, but a control
                worst[row.peer] = max(factor, worst.get(row.peer, 0.0))
        if worst:
            told = ", ".join(f"{peer} ({factor:.1f})" for peer, factor in worst.items())
            lines.append(f"| {about['title']} | {told} |")
    return "\n".join(lines)


def behind(ours: Row | None, other: Row) -> float:
    """Tell how many times worse our first figure is than another's; 0: not to be said."""
    figure = next(iter(ours.samples), "") if ours is not None else ""
    if ours is None or not other.samples.get(figure) or not UNITS[figure].better:
        return 0.0
    mine, theirs = ours.median(figure), other.median(figure)
    worse, better = (mine, theirs) if UNITS[figure].better == "lower" else (theirs, mine)
    return worse / better if better else 0.0


def sections(results: dict[str, Any]) -> list[tuple[Path, str, str, str]]:
    """List what a run has to tell: the file, the text, and the marks that it stands between."""
    if results.get("kind") == "partitions":
        return [(TIERED_PAGE, partitions_table.table(results), PARTITIONS_START, PARTITIONS_END)]
    scenarios = set(results["scenarios"])
    if scenarios <= set(web_tables.TITLES):
        short = [(README, web_tables.short(results), WEB_START, WEB_END)]
        whole = (BENCH_README, web_tables.whole(results), WEB_START, WEB_END)
        return [*(short if "web" in scenarios else []), whole]
    if scenarios <= set(rates_table.SCENARIOS):
        return [(RATES_PAGE, rates_table.table(results), RATES_START, RATES_END)]
    if scenarios <= set(limits_table.SCENARIOS):
        return [(RATES_PAGE, limits_table.table(results), LIMITS_START, LIMITS_END)]
    if scenarios <= set(tiered_table.SCENARIOS):
        return [(TIERED_PAGE, tiered_table.table(results), TIERED_START, TIERED_END)]
    return [(README, section(results), START, END), (BENCH_README, losses(results), START, END)]


def replaced(text: str, section: str, first: str = START, last: str = END) -> str:
    """Put a section between the marks of a README's text."""
    before, start, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not (start and end):
        raise SystemExit(f"a README lacks its marks {first} and {last}")
    return f"{before}{first}\n{section}\n{last}{after}"


def main(arguments: list[str]) -> int:
    """Update both READMEs and the plot; 0: done."""
    parser = argparse.ArgumentParser(
        prog="python -m bench readme", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, help="what --json wrote")
    options = parser.parse_args(arguments)
    if plots.missing():
        parser.error(plots.missing())
    results = json.loads(options.results.read_text())
    if results["format"] != FORMAT:
        parser.error(f"{options.results} has format {results['format']}, not {FORMAT}")
    for path, told, first, last in sections(results):
        path.write_text(replaced(path.read_text(), told, first, last))
    if results.get("kind") != "partitions" and (drawn := picture(results)):
        (CHECKOUT / PLOT).write_bytes(plots.render(drawn, plots.styles(results), "svg"))
    return 0
