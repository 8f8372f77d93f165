"""The text tables: made from the results only, as they stand in the JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .run import problems
from .targets import verdict_of

NOTE = (
    "ns an operation, raw: the loop included; `net` is the median less the empty loop's.\n"
    "`p99` and `min` are over the means of timed batches, not over single operations. `x dict`:\n"
    "median over the repetitions of this peer's to dict's (least-most). Verdicts: on raw figures."
)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Lay out a table; the first `left` columns and the last are flush left.

    >>> print(table(["name", "n", ""], [["a", "10", "PASS"], ["bcd", "5", ""]]))
    name   n
    a     10  PASS
    bcd    5
    """
    widths = [max(len(row[n]) for row in [heads, *rows]) for n in range(len(heads))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if n < left or n == len(row) - 1 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return "\n".join([line(heads), *map(line, rows)])


def header(results: dict[str, Any], file: str) -> str:
    """Say what runs, and on what."""
    engine, machine = results["engine"], results["machine"]
    fits = "" if engine["sources_as_in_checkout"] else ", but the sources differ from it"
    peers = ", ".join(f"{name} {about['version']}" for name, about in results["peers"].items())
    lines = [
        f"shmmap {engine['version']}, {engine['engine']} engine, {file}",
        f"revision {engine['revision']}{fits}",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}, {machine['python']}",
        f"load average {machine['load_average'][0]} at the start",
        f"peers: {peers}",
    ]
    lines += [f"skipped: {n} (to have it: {how})" for n, how in results["skipped_peers"].items()]
    return "\n".join(lines)


def _mark(results: dict[str, Any], row: dict[str, Any]) -> str:
    if row["problem"]:
        return "WRONG"
    return verdict_of(results["targets"], row["scenario"]) if row["peer"] == "shmmap" else ""


def _latency(results: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    cells = []
    for row in rows:
        ratio = row["to_dict"]
        cells.append([
            row["scenario"],
            row["peer"],
            *(f"{row[f'{figure}_ns']:,.0f}" for figure in ("median", "p99", "least")),
            "" if row["net_ns"] is None else f"{row['net_ns']:,.0f}",
            "" if ratio is None else f"{ratio[0]:.2f} ({ratio[1]:.2f}-{ratio[2]:.2f})",
            _mark(results, row),
        ])
    heads = ["scenario", "peer", "median", "p99", "min", "net", "x dict", ""]
    return f"{table(heads, cells, left=2)}\n{NOTE}"


def _readers(results: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    cells = [
        [
            row["scenario"],
            row["peer"],
            f"{row['one_per_s'] / 1e6:.2f}",
            f"{row['two_per_s'] / 1e6:.2f}",
            f"{row['gain']:.2f} ({row['gain_least']:.2f}-{row['gain_most']:.2f})",
            _mark(results, row),
        ]
        for row in rows
    ]
    heads = ["scenario", "peer", "one, M/s", "two, M/s", "gain", ""]
    note = "dict: each process has its own, so its gain is what the two cores gave just then."
    return f"{table(heads, cells, left=2)}\n{note}"


def _memory(results: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    cells = [
        [
            row["scenario"],
            f"{row['entries']:,}",
            f"{row['evicted']:,}",
            f"{row['live_bytes']:,}",
            f"{row['allocated_bytes']:,}",
            f"{row['amplification']:.3f}",
            _mark(results, row),
        ]
        for row in rows
    ]
    heads = ["scenario", "entries", "evicted", "payload B", "allocated B", "amplification", ""]
    return table(heads, cells)


def _capacity(results: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    plans = [
        [
            f"{row['capacity']:,}",
            "default" if row["shards_said"] is None else "said",
            str(row["shards"]),
            f"{row['slots']:,}",
            f"{row['slots_an_entry']:.3f}",
            f"{row['bytes_to_payload']:.3f}",
            "",
        ]
        for row in rows if "slots" in row
    ]
    filled = [
        [row["scenario"], f"{row['capacity']:,}", str(row["maps"]), str(row["refused"]),
         _mark(results, row)]
        for row in rows if "refused" in row
    ]
    heads = ["capacity", "shards=", "shards", "slots", "slots/entry", "bytes/payload", ""]
    parts = [table(heads, plans)] if plans else []
    if filled:
        parts.append(table(["scenario", "capacity", "maps", "refused", ""], filled))
    return "\n\n".join(parts)


_SECTIONS = {
    "latency": ("One process", _latency),
    "readers": ("Two processes reading", _readers),
    "memory": ("Memory of a full cache", _memory),
    "capacity": ("Headroom of capacity=N", _capacity),
}


def _targets(results: dict[str, Any]) -> str:
    cells = [
        [
            row["metric"],
            "-" if row["measured"] is None else f"{row['measured']:.3f}{row['unit']}",
            f"{row['relation']} {row['limit']:g}{row['unit']}",
            row["verdict"],
        ]
        for row in results["targets"]
    ]
    return table(["target", "measured", "limit", ""], cells)


def report(results: dict[str, Any]) -> str:
    """Give all tables."""
    parts = []
    for family, (title, section) in _SECTIONS.items():
        if rows := results["rows"].get(family):
            parts.append(f"== {title} ==\n{section(results, rows)}")
    if results["targets"]:
        parts.append(f"== Targets ==\n{_targets(results)}")
    if wrong := problems(results):
        parts.append("== WRONG ANSWERS ==\n" + "\n".join(wrong))
    return "\n\n".join(parts)
