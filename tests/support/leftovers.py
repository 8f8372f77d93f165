"""What is in /dev/shm of a map, and of a test run: its maps are named t<pid of the run>-..."""

from __future__ import annotations

import os
import re
from pathlib import Path

SHM = Path("/dev/shm")
_TEST_OBJECT = re.compile(r"(?:sem\.)?shmmap\.(?:[\w-]+@)?t(\d+)-.*")


def control_file(name: str) -> str:
    """Return the file in /dev/shm that is a map's control segment."""
    from shmmap.system import segment  # not at the top: what starts the tests has no shmmap yet

    return segment.control_name(name)[1:]


def objects_of(name: str) -> list[str]:
    """List the objects of a map, and of maps whose names begin as its does."""
    entries = sorted(os.listdir(SHM))
    return [e for e in entries if e.removeprefix("sem.").startswith(f"shmmap.{name}")]


def of_run(pid: int) -> list[str]:
    """List the objects of the run with this process id."""
    return [entry for entry in sorted(os.listdir(SHM)) if _run_of(entry) == pid]


def remove_of_dead_runs() -> int:
    """Remove what runs that were killed have left; count it."""
    removed = 0
    for entry in os.listdir(SHM):
        pid = _run_of(entry)
        if pid and not Path(f"/proc/{pid}").exists():
            (SHM / entry).unlink(missing_ok=True)
            removed += 1
    return removed


def _run_of(entry: str) -> int:
    found = _TEST_OBJECT.fullmatch(entry)
    return int(found[1]) if found else 0
