"""Fail what the library asks of the system: `python -m tests.failing MACHINE [options]`.

Each machine is a package in this directory with a `__main__`. It ends with what was run and the
number of faults; the exit code is 1 if there were any.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = sorted(path.parent.name for path in HERE.glob("*/__main__.py"))

if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
    sys.exit(f"usage: python -m tests.failing {{{','.join(NAMES)}}} ...")
chosen = sys.argv.pop(1)
sys.argv[0] = f"python -m tests.failing {chosen}"
runpy.run_module(f"tests.failing.{chosen}", run_name="__main__")
