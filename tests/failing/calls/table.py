"""The table of docs/failing-calls.md: which call, which errno, what the user gets.

Written from what a run of everything has seen. What fails once and is answered as if nothing
had happened stands in a row too: that is what the user gets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[3] / "docs" / "failing-calls.md"
BEGIN, END = "<!-- calls -->\n", "<!-- /calls -->\n"
_OBJECTS = "the map's objects"
_MEMORY = "anonymous memory"
_GOES_ON = "goes on"
_GROUPS = {
    "control segment": _OBJECTS, "shard": _OBJECTS, "lock shard": _OBJECTS,
    "liveness file": _OBJECTS, "semaphore": _OBJECTS, "semaphore in the making": _OBJECTS,
    "other file in /dev/shm": "doctor's test file", "page": _MEMORY, "heap": _MEMORY,
    "snapshot's copy": _MEMORY, "thread's stack": _MEMORY, "dump, in the making": "a dump",
    "dump's directory": "a dump", "dump": "a dump",
}
Key = tuple[str, str, str]  # call, group of things, errno


def group_of(thing: str) -> str:
    """Name the group that a thing is shown in."""
    return "/proc" if thing.startswith("/proc") else _GROUPS.get(thing, thing)


def outcomes(records: Iterable[dict[str, Any]]) -> dict[Key, set[str]]:
    """Gather what the user gets, by call, group of things and errno."""
    found: dict[Key, set[str]] = {}
    for record in records:
        if record["fired"]:
            key = (record["call"], group_of(record["thing"]), record["errno"])
            found.setdefault(key, set()).add(record["outcome"])
    return found


def rows(records: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """List the table's rows: errnos with the same outcomes share one."""
    shared: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (call, group, error), seen in outcomes(records).items():
        shared.setdefault((call, group, tuple(sorted(seen, key=_order))), []).append(error)
    return sorted(
        (call, group, ", ".join(sorted(errors)), "; or ".join(seen))
        for (call, group, seen), errors in shared.items()
    )


def _order(outcome: str) -> tuple[bool, str]:
    return outcome != _GOES_ON, outcome


def counts(records: list[dict[str, Any]]) -> str:
    """Say how much was run, an engine a line."""
    lines = []
    for engine in sorted({record["engine"] for record in records}):
        fired = [r for r in records if r["engine"] == engine and r["fired"]]
        sites = {(r["scenario"], r["call"], r["thing"], r["which"]) for r in fired}
        scenarios = {r["scenario"] for r in fired}
        bad = sum(bool(r["faults"]) for r in fired)
        lines.append(
            f"The {engine} engine: {len(scenarios)} scenarios, {len(sites):,} system calls in "
            f"them, {len(fired):,} failures, {bad:,} with faults."
        )
    return "\n".join(lines)


def write_table(records: list[dict[str, Any]]) -> None:
    """Put the table, and the counts of its run, between the page's marks."""
    text = PAGE.read_text(encoding="utf-8")
    lines = ["| call | of what | errno | what the user gets |", "| --- | --- | --- | --- |"]
    lines += ["| " + " | ".join(row) + " |" for row in rows(records)]
    made = f"{BEGIN}{counts(records)}\n\n" + "\n".join(lines) + f"\n{END}"
    text = re.sub(f"(?s){BEGIN}.*?{END}", lambda _: made, text)
    PAGE.write_text(text, encoding="utf-8")


def read_table() -> dict[Key, set[str]]:
    """Read what the page says."""
    found: dict[Key, set[str]] = {}
    text = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0] not in ("call", "---"):
            for error in cells[2].split(", "):
                found.setdefault((cells[0], cells[1], error), set()).update(cells[3].split("; or "))
    return found


def expected(told: dict[Key, set[str]], record: dict[str, Any]) -> set[str]:
    """List what may come of a failure, by what the page says.

    `goes on` in any row: another Python, C library or kernel makes other calls of a kind before the
    one that matters. Of anonymous memory any outcome that the page has for it: it depends on the
    heap what it was for. A call, or an errno, that has no row with this group: as the group's rows.
    """
    key = call, group, _ = record["call"], group_of(record["thing"]), record["errno"]
    alike = [one for one in told if one[1] == group and (group == _MEMORY or one[0] == call)]
    rows = [one for one in alike if group == _MEMORY or one == key] or alike
    rows = rows or [one for one in told if one[1] == group]
    return {_GOES_ON}.union(*(told[one] for one in rows))
