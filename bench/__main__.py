"""`python -m bench quick`: run the scenarios, print the tables, write the JSON."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from types import FrameType

from .checkout import prefer_installed

prefer_installed()  # before anything imports shmmap

from .machine import engine_file  # noqa: E402
from .report import header, report  # noqa: E402
from .run import problems, run, select  # noqa: E402
from .workloads import QUICK  # noqa: E402


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["quick"], help="quick: under two minutes")
    parser.add_argument("--quick", action="store_true", help="the same as `quick`")
    parser.add_argument("--only", default="", metavar="PARTS",
                        help="scenarios whose name has one of these comma-separated parts")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures there")
    parser.add_argument("--list", action="store_true", help="list the scenarios and leave")
    options = parser.parse_args(arguments)
    if not (options.what or options.quick or options.list):
        parser.error("say what to run: quick (or --list)")
    if not select(options.only):
        parser.error(f"no scenario's name has any of {options.only!r}; see --list")
    if options.json is not None and not options.json.parent.is_dir():
        parser.error(f"--json: there is no directory {options.json.parent}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run; 0: measured (targets met or not), 1: a peer or the map answered wrongly."""
    options = parse(arguments)
    chosen = select(options.only)
    if options.list:
        for family, scenario in chosen:
            print(f"{family:9} {scenario.name:19} {scenario.title}")
        return 0
    signal.signal(signal.SIGTERM, _leave)
    results = run(
        QUICK, options.only,
        announce=lambda known: print(header(known, engine_file()), flush=True),
    )
    print(f"\n{report(results)}\n\n{sum(results['took_s'].values()):.0f} s")
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 1 if problems(results) else 0


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # so that stores are removed on the way out


if __name__ == "__main__":
    sys.exit(main())
