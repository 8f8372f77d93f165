"""What another process sees of a map after a trial: it opens, reads, writes, locks, unlinks it."""

from __future__ import annotations

import os
from typing import Any

import shmmap

from . import deeds, operations
from .processes import end_of, fork
from .world import ABSENT, DONE, Report


def judge(
    operation: operations.Operation, deed: str, name: str, report: Report, said: int
) -> list[str]:
    """Look at the map from a process that had no part in it; unlink it."""
    verdict = Report()
    try:
        pid = fork(lambda: _judge(operation, deeds.BY_NAME[deed], name, report, verdict), said)
        problems = end_of("a process that opened the map afterwards", pid, verdict)
        found = verdict.read("itself")
        return problems + (found["problems"] if found else [])
    finally:
        verdict.close()


def _judge(
    operation: operations.Operation, deed: deeds.Deed, name: str, report: Report, verdict: Report
) -> None:
    mine = report.read("itself") or {}
    problems: list[str] = []
    ends = deed.ends
    # somebody ended without a word, as the last one, or was broken off in the middle
    broken = ends or mine.get("outcome") != DONE or (operation.ephemeral and deed.forks)
    try:
        m = shmmap.ShmMap.attach(name, lock_timeout=1.0)
    except shmmap.MapNotFound:
        unmade = operation in operations.MAKING and mine.get("outcome") != DONE
        if not (mine.get("unlinked") or operation.ephemeral or ends or unmade):
            problems.append("the map is gone")
    else:
        if operation.ephemeral and not broken and not mine.get("unlinked"):
            problems.append("the ephemeral map outlives its users")
        problems += [f"check(): {line}" for line in m.check()]
        if not mine.get("unlinked"):
            problems += wrong_values(m, operation, report)
        for key in range(8):
            m[f"judge {key}"] = key
        for key in ("report", "leased", "deed", "child", "exec"):
            m.lock(key, timeout=0).__enter__()
        m.unlink()
        m.close()
    if broken and left_of(name):  # whoever makes a map of that name next removes it
        m = shmmap.ShmMap.create(name, size="400KB", shards=2)
        m.unlink()
        m.close()
    problems += left_of(name)
    verdict.write("itself", {"problems": problems, "outcome": ""})


def wrong_values(m: Any, operation: operations.Operation, report: Report) -> list[str]:
    """Compare the map with what it was told."""
    expected = dict((report.read("itself") or {}).get("allowed", {}))
    for side in ("child", "daemon", "exec"):
        for key, values in ((report.read(side) or {}).get("allowed") or {}).items():
            if key in ("c", "e"):
                expected[key] = [*values, *([ABSENT] if operation.removes_any else [])]
            elif key in expected:
                expected[key] = [*expected[key], *values]
    found = []
    for key, values in expected.items():
        value = m.get(key, ABSENT)
        if isinstance(value, (dict, tuple)):
            value = list(value) if isinstance(value, tuple) else _plain(value)
        if value not in [_plain(v) for v in values]:
            found.append(f"key {key!r} has {value!r}, of {values!r}")
    return found


def _plain(value: Any) -> Any:
    """Turn a value into what JSON makes of it."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def left_of(name: str) -> list[str]:
    """List the map's objects that are left in /dev/shm."""
    left = [entry for entry in os.listdir("/dev/shm")
            if f"shmmap.{name}" in entry and not _is_other(entry, name)]
    return [f"{len(left)} objects are left: {sorted(left)[:3]}"] if left else []


def _is_other(entry: str, name: str) -> bool:
    rest = entry.split(f"shmmap.{name}", 1)[1]
    return rest[:1] not in ("", ".")


def remove_left(name: str) -> None:
    """Remove whatever is left, of the other maps of the trial too."""
    for entry in os.listdir("/dev/shm"):
        if f"shmmap.{name}." in f"{entry}." or f"shmmap.{name}-" in entry:
            os.unlink(f"/dev/shm/{entry}")
