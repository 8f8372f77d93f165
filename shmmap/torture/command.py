"""The command `torture`: options in, report out."""

from __future__ import annotations

import argparse
import time

from .plan import add_options, read_options


def add_command(parser: argparse.ArgumentParser) -> None:
    """Make a parser that of the command."""
    add_options(parser)
    parser.set_defaults(run=_torture)


def _torture(options: argparse.Namespace) -> int:
    from .run import run  # loads numpy, and more

    report = run(read_options(options, time.time_ns() % 10**9))
    print(report.as_json() if options.json else report.as_text())
    return report.exit_code
