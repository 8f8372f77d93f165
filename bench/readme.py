"""Put the table of a run into the project's README: `python -m bench.readme RESULTS.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

START, END = "<!-- bench:quick -->", "<!-- /bench:quick -->"
PEERS = ("dict", "shmmap", "TTLCache+lock", "lmdb", "Manager().dict")
ROWS = {
    "get-hot": "`get`, 64 keys over and over",
    "get-insertion": "`get`, 100,000 keys in the order written",
    "get-shuffled": "`get`, 100,000 keys in random order",
    "set-hot": "`set` of an existing key, 64 keys",
    "set-insertion": "`set` of an existing key, 100,000 keys in the order written",
    "set-shuffled": "`set` of an existing key, 100,000 keys in random order",
    "incr-hot": "`incr`, 64 counters",
}


def table(results: dict[str, Any]) -> str:
    """Write the table of one run."""
    machine, engine = results["machine"], results["engine"]
    lines = [
        f"Nanoseconds an operation, medians of one run ({engine['engine']} engine, "
        f"{machine['cores']} cores of {machine['cpu']}, {machine['python'].split(' (')[0]}; "
        "16-byte str keys, 100-byte values):",
        "",
        "| | " + " | ".join(PEERS) + " |",
        "|---|" + "---:|" * len(PEERS),
    ]
    for scenario, title in ROWS.items():
        figures = (results["metrics"].get(f"{scenario}/{peer} ns") for peer in PEERS)
        cells = ["-" if figure is None else f"{figure:,.0f}" for figure in figures]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "`dict` and `TTLCache` share nothing between processes. `python -m bench quick` measures "
        "it on your machine; [bench/README.md](bench/README.md) says what the figures leave out "
        "and where shmmap loses.",
    ]
    return "\n".join(lines)


def replaced(text: str, results: dict[str, Any]) -> str:
    """Put the table between the marks of a README's text."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise SystemExit(f"README.md lacks its marks {START} and {END}")
    return f"{before}{START}\n{table(results)}\n{END}{after}"


def main() -> None:
    """Update README.md from the JSON that the command line names."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    readme = Path(__file__).resolve().parents[1] / "README.md"
    results = json.loads(Path(sys.argv[1]).read_text())
    readme.write_text(replaced(readme.read_text(), results))


if __name__ == "__main__":
    main()
