"""Run the machine that fails system calls: `python -m tests.failing calls [options]`."""

from __future__ import annotations

import argparse
import sys

from . import command


def main() -> int:
    """Run it; give the exit code."""
    parser = argparse.ArgumentParser(
        prog=sys.argv[0], description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_options(parser)
    code: int = command.run(parser.parse_args())
    return code


if __name__ == "__main__":
    sys.exit(main())
