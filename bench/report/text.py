"""The text report: made from the results only, as they stand in the JSON."""

from __future__ import annotations

from typing import Any

from ..core.results import problems
from .hit_ratio_table import overview
from .tables import WRONG, table_of, targets_table, union

READ = (
    "Figures are medians over the repetitions. Ratios are taken within a repetition, in which the\n"
    "peers took turns. PASS and MISS: whether shmmap met what was promised there; see Targets."
)


def header(results: dict[str, Any], file: str = "") -> str:
    """Say what runs, and on what."""
    engine, machine = results["engine"], results["machine"]
    fits = "" if engine["sources_as_in_checkout"] else ", but the sources differ from it"
    peers = ", ".join(f"{name} {about['version']}" for name, about in results["peers"].items())
    lines = [
        f"shmmap {engine['version']}, {engine['engine']} engine, {file or engine['file']}",
        f"revision {engine['revision']}{fits}",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}, {machine['python']}",
        f"load average {machine['load_average'][0]} at the start",
        f"peers: {peers}",
    ]
    lines += [f"skipped: {n} (to have it: {how})" for n, how in results["skipped_peers"].items()]
    return "\n".join(lines)


def families(results: dict[str, Any]) -> dict[str, list[str]]:
    """List the scenarios that have rows under the headings of their families."""
    measured = union(row["scenario"] for row in results["rows"])
    found: dict[str, list[str]] = {}
    for name, about in results["scenarios"].items():
        if name in measured:
            found.setdefault(about["family"], []).append(name)
    return found


def not_run(results: dict[str, Any]) -> list[str]:
    """List the scenarios that an interruption left out, or cut short."""
    if not results["interrupted"]:
        return []
    measured = {row["scenario"] for row in results["rows"]} | results["failures"].keys()
    return [name for name in results["scenarios"] if name not in measured]


def report(results: dict[str, Any]) -> str:
    """Return all tables, each family's with a legend of its columns, then the verdicts."""
    parts = []
    for family, names in families(results).items():
        parts.append(f"== {family} ==")
        tables = {name: table_of(results, name) for name in names}
        for name, table in tables.items():
            parts.append(f"{name}: {results['scenarios'][name]['title']}\n{table.text()}")
        parts.append("\n".join(
            f"  {note}" for note in union(note for t in tables.values() for note in t.notes)
        ))
    if hits := overview(results):
        parts.append(f"== Hit ratios ==\n{hits.text()}\n\n  {hits.notes[0]}")
    if parts:
        parts.append(READ)
    if results["targets"]:
        parts.append(f"== Targets ==\n{targets_table(results).text()}")
    if wrong := problems(results):
        parts.append(f"== {WRONG} ==\n" + "\n".join(wrong))
    if left := not_run(results):
        parts.append(f"Interrupted. Not measured: {', '.join(left)}")
    return "\n\n".join(parts)
