"""Put a table and a plot of a run into the project's README: `python -m bench.readme RESULTS.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from . import plots
from .run import FORMAT

ROOT = Path(__file__).resolve().parents[1]
PLOT = Path("bench/results/readme.svg")
START, END = "<!-- bench -->", "<!-- /bench -->"
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
    machine, engine = results["machine"], results["engine"]
    lines = [
        f"Nanoseconds an operation, medians of one run ({engine['engine']} engine, "
        f"{machine['cores']} cores of {machine['cpu']}, {machine['python'].split(' (')[0]}; "
        "16-byte str keys, 100-byte values):",
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


def replaced(text: str, results: dict[str, Any]) -> str:
    """Put the section between the marks of a README's text."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise SystemExit(f"README.md lacks its marks {START} and {END}")
    return f"{before}{START}\n{section(results)}\n{END}{after}"


def main() -> None:
    """Update README.md and its plot from the JSON that the command line names."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    if plots.missing():
        raise SystemExit(plots.missing())
    results = json.loads(Path(sys.argv[1]).read_text())
    if results["format"] != FORMAT:
        raise SystemExit(f"{sys.argv[1]} has format {results['format']}, not {FORMAT}")
    readme = ROOT / "README.md"
    readme.write_text(replaced(readme.read_text(), results))
    if drawn := picture(results):
        (ROOT / PLOT).write_bytes(plots.render(drawn, plots.styles(results), "svg"))


if __name__ == "__main__":
    main()
