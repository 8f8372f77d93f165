"""Failing system calls: each call of each scenario fails once, with each errno it can have.

    python -m tests.failing calls [options]

    injector    stops a process at each of its system calls (seccomp), and lets it fail
    kinds       which calls, what each is about, with which errno each can fail
    scenarios   what is done while a call fails: lives, operations, commands
    companion   a process that uses the map meanwhile
    runs        one run of a scenario, watched from outside
    subject     runs a scenario in a process of its own, and reports what came of it
    judge       what may come of it
    table       what the user gets, for the docs
"""

from __future__ import annotations

import argparse
import sys

from . import command


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(
        prog=sys.argv[0], description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_options(parser)
    code: int = command.run(parser.parse_args())
    return code


if __name__ == "__main__":
    sys.exit(main())
