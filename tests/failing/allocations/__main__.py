"""Fail the k-th allocation of every public operation, for k = 1, 2, ... until none fails.

    python -m tests.failing allocations [--all] [part of a case ...]

As SQLite's out-of-memory loop does: in every state of the map, of Python's allocators and of the C
library's, that one alone or all from it on. After each: success or a documented error, `check()`
clean, nothing that was acknowledged lost, nothing left behind, and the next operation works.
Source: "How SQLite is tested", 3.1, sqlite.org/testing.html.

Without --all one case of each operation and state, and ever fewer of its allocations; with it
everything. SHMMAP_ENGINE chooses the engine. The last line has the counts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .memory import Faults, build


def main(arguments: list[str]) -> int:
    """Build the library and run everything below it; return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder))
        environment = {
            **os.environ, "LD_PRELOAD": str(library), "FAULTY_MEMORY": str(library),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        command = [sys.executable, "-m", "tests.failing.allocations", *arguments]
        return subprocess.run(command, env=environment).returncode


def below(arguments: list[str]) -> int:
    """Run the cases, with the library preloaded."""
    import shmmap

    from .loop import all_cases, run_cases, some_cases

    parser = argparse.ArgumentParser(prog="python -m tests.failing allocations")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("parts", nargs="*")
    options = parser.parse_args(arguments)
    faults = Faults(os.environ.pop("FAULTY_MEMORY"))
    os.environ.pop("LD_PRELOAD")
    cases = all_cases() if options.all or options.parts else some_cases()
    cases = [case for case in cases if all(part in str(case) for part in options.parts)]
    began, tried, bad = time.monotonic(), 0, 0
    for case, result in run_cases(cases, faults, options.all, print):
        tried += result.tried
        bad += len(result.faults)
        for fault in result.faults:
            print(f"{case} | {fault}", flush=True)
    print(
        f"{shmmap.ENGINE}: {len({case.operation for case in cases})} operations, "
        f"{len({case.state for case in cases})} states, {len(cases)} cases, {tried:,} failed "
        f"allocations, {time.monotonic() - began:.0f} s, {bad} faults"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit((below if "FAULTY_MEMORY" in os.environ else main)(sys.argv[1:]))
