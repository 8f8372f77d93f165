"""`python -m bench --quick`: run the scenarios, print the tables, write JSON, plots and a page."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

from .core.source_tree import prefer_installed

prefer_installed()  # before anything imports shmmap

from .core.machine import engine_file  # noqa: E402
from .core.results import FORMAT, problems  # noqa: E402
from .core.run import run  # noqa: E402
from .core.scenario import Setup  # noqa: E402
from .core.workloads import FULL, QUICK, Workload  # noqa: E402
from .peers import named, present_peers  # noqa: E402
from .report import plots  # noqa: E402
from .report.page import page  # noqa: E402
from .report.text import header, report  # noqa: E402
from .scenarios import select, select_cache  # noqa: E402

RESIZE = "resize,shards-online"  # parts of names
OTHERS = """\
other commands:
  python -m bench cache --quick | --full                            the map as a cache, same options
  python -m bench resize --quick | --full                           a map that takes another shape
  python -m bench values --quick | --full                           kinds of values, same options
  python -m bench tiered --full                                     several machines, same options
  python -m bench partitions [--full] [--seed N]                    the same, while wires are cut
  python -m bench report RESULTS.json [--html PATH] [--plots DIR]   from what was measured before
  python -m bench compare OLD.json NEW.json                         what became faster or slower
  python -m bench readme RESULTS.json                               into README.md, bench/README.md

exit status of a run: 0 measured, whether or not targets were met; 1 something answered wrongly or
failed; 130 interrupted. Of compare: 1 if anything is slower."""


def run_parser() -> argparse.ArgumentParser:
    """Say what a run takes."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, epilog=OTHERS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="?", choices=["quick", "full"], help="as --quick, --full")
    parser.add_argument("--quick", action="store_true", help="under two minutes, small scales")
    parser.add_argument("--full", action="store_true", help="everything: about 50 minutes")
    parser.add_argument("--list", action="store_true", help="list the scenarios and leave")
    parser.add_argument("--only", default="", metavar="PARTS",
                        help="scenarios whose name has one of these comma-separated parts")
    parser.add_argument("--peers", default="", metavar="NAMES",
                        help="beside shmmap only these peers: comma-separated names or parts")
    parser.add_argument("--processes", type=numbers, default=(), metavar="1,2,4",
                        help="numbers of worker processes, where a scenario varies them")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures there")
    add_outputs(parser)
    return parser


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Add what a run and `report` both can write."""
    parser.add_argument("--html", type=Path, metavar="PATH", help="write one page with everything")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write the plots there, PNG, SVG")


def numbers(text: str) -> tuple[int, ...]:
    """Read comma-separated numbers from 1 up.

    >>> numbers("1,2,8")
    (1, 2, 8)
    """
    found = tuple(int(part) for part in text.split(","))
    if min(found) < 1:
        raise ValueError(text)
    return found


def check_outputs(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse what cannot be written before anything is measured."""
    for name in ("json", "html"):
        path = getattr(options, name, None)
        if path is not None and not path.parent.is_dir():
            parser.error(f"--{name}: there is no directory {path.parent}")
    if options.plots is not None and plots.missing():
        parser.error(f"--plots: {plots.missing()}")


def write_outputs(results: dict[str, Any], options: argparse.Namespace) -> None:
    """Write the page and the plots that were asked for."""
    if options.html is not None:
        options.html.write_text(page(results))
    if options.plots is not None:
        plots.write(results, options.plots)


def measure(arguments: list[str], cache: bool = False) -> int:
    """Run scenarios, as the command line says; with `cache` only those of a cache, all of them."""
    parser = run_parser()
    options = parser.parse_args(arguments)
    full = options.full or options.what == "full"
    quick = options.quick or options.what == "quick"
    if (full and quick) or not (full or quick or options.list):
        parser.error("say what to run: --quick or --full (or --list)")
    check_outputs(parser, options)
    chosen = select_cache(options.only, quick) if cache else select(options.only, quick)
    if not chosen:
        parser.error(f"no scenario's name has any of {options.only!r}; see --list")
    if options.list:
        for family, scenarios in groupby(chosen, key=lambda scenario: scenario.family):
            print(family)
            for scenario in scenarios:
                mark = " " if scenario.quick else "*"
                print(f"  {scenario.name:20}{mark} {scenario.title}")
        print("* not in --quick, unless --only names it")
        return 0
    present, skipped = present_peers()
    try:
        peers = named(present, options.peers)
    except ValueError as error:
        parser.error(f"--peers: {error}")
    signal.signal(signal.SIGTERM, _interrupt)
    scale = FULL if full else QUICK
    setup = Setup(Workload(scale), peers, options.processes or scale.processes)
    results = run(
        setup, chosen, skipped,
        announce=lambda known: print(header(known, engine_file()), flush=True),
    )
    if options.json is not None:  # first: nothing that follows may cost the figures
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\n{report(results)}\n\n{sum(results['took_s'].values()):.0f} s")
    write_outputs(results, options)
    if results["interrupted"]:
        return 130
    return 1 if problems(results) else 0


def tell(arguments: list[str]) -> int:
    """Print the tables of a run that was measured before; write its page and plots."""
    parser = argparse.ArgumentParser(prog="python -m bench report", description=tell.__doc__)
    parser.add_argument("results", type=Path, help="what --json wrote")
    add_outputs(parser)
    options = parser.parse_args(arguments)
    check_outputs(parser, options)
    results = json.loads(options.results.read_text())
    if results["format"] != FORMAT:
        parser.error(f"{options.results} has format {results['format']}, not {FORMAT}")
    write_outputs(results, options)
    print(f"{header(results)}\n\n{report(results)}")
    return 1 if problems(results) else 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt  # SIGTERM keeps what was measured, and removes the stores, like Ctrl-C


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["compare"]:
        from .report import compare  # here: every worker imports this module, and not numpy with it

        return compare.main(arguments[1:])
    if arguments[:1] == ["readme"]:
        from .report import readme

        return readme.main(arguments[1:])
    if arguments[:1] == ["resize"]:
        return measure([*arguments[1:], "--only", RESIZE])
    if arguments[:1] == ["values"]:
        return measure([*arguments[1:], "--only", "values"])
    if arguments[:1] == ["tiered"]:
        return measure([*arguments[1:], "--only", "tiered"])
    if arguments[:1] == ["partitions"]:
        from tests.machines import __main__ as machines  # of the checkout, as the bench is

        return machines.main(arguments[1:])
    if arguments[:1] == ["cache"]:
        return measure(arguments[1:], cache=True)
    return tell(arguments[1:]) if arguments[:1] == ["report"] else measure(arguments)


if __name__ == "__main__":
    sys.exit(main())
