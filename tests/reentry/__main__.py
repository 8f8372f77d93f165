"""Python code in the middle of an operation: `python -m tests.reentry collector | matrix | replay`.

    collector  garbage collections at every tracked allocation of every operation, whose
               finalizers close, open, read, write, lock, fork, raise, end; with the pure engine
               also at every line
    matrix     what happens x where: handlers of signals at every line, in every wait; writes
               docs/reentry.md with --write
    replay     one trial, as a failure names it: PLACE / DEED / HOW / AT / RELEASED

Without --all, a sample that --seed chooses. Ends with what was run and what was wrong; the exit
code is 1 if anything was.
"""

from __future__ import annotations

import argparse
import os
import sys


def main() -> int:
    """Read the options; run with the engine that was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.reentry", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("collector", "matrix", "replay"))
    parser.add_argument("names", nargs="*", help="of operations or places; replay: the trial")
    parser.add_argument("--all", action="store_true", help="every point, up to --most a series")
    parser.add_argument("--most", type=int, default=200, help="points of a series, spread over it")
    parser.add_argument("--engine", choices=("compiled", "pure"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--deeds", help="names, separated by commas")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--write", action="store_true", help="write docs/reentry.md (matrix)")
    options = parser.parse_intermixed_args()
    if options.engine and os.environ.get("SHMMAP_ENGINE") != options.engine:
        os.environ["SHMMAP_ENGINE"] = options.engine
        os.execv(sys.executable, [sys.executable, "-m", "tests.reentry", *sys.argv[1:]])
    from . import machines

    return machines.main(options)


if __name__ == "__main__":
    sys.exit(main())
