"""Programs of the tests, such as `python -m tests.fuzz`, as a test runs them: with the package that
the test itself has, not with the source tree of the current folder.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
_SCRIPT = """
import runpy, sys
sys.path[:] = [entry for entry in sys.path if entry]
import shmmap
program = sys.argv.pop(1)
sys.path.append(sys.argv.pop(1))
runpy.run_module(program, run_name="__main__", alter_sys=True)
"""


def command(program: str, *arguments: str) -> list[str]:
    """Return the command that runs a program; SHMMAP_ENGINE chooses its engine."""
    return [sys.executable, "-c", _SCRIPT, program, str(TOP), *arguments]


def run_code(code: str, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter, away from the checkout, whose sources would come first."""
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True,
                          timeout=60, cwd="/", **more)
