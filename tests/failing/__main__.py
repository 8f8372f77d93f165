"""Fail what the library asks of the system: `python -m tests.failing MACHINE [options]`.

    calls    system calls: see tests/failing/calls

Each machine ends with what was run and the number of faults; the exit code is 1 if there were
any.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

MACHINES = {"calls": ".calls.command"}  # each has add_options(parser) and run(options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one machine; give the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.failing", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    machines = parser.add_subparsers(required=True, metavar="MACHINE")
    for name, module in MACHINES.items():
        machine = importlib.import_module(module, __package__)
        one = machines.add_parser(
            name, help=machine.__doc__.splitlines()[0], description=machine.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        machine.add_options(one)
        one.set_defaults(run=machine.run)
    options = parser.parse_args(arguments)
    code: int = options.run(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
