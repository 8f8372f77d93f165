"""`shmmap dump` and `load`: a map's entries in a file."""

from __future__ import annotations

import argparse

from ..copies import merging
from ..map import ShmMap
from . import findings, named


def _add_dump(command: argparse.ArgumentParser) -> None:
    named.add_name(command)
    command.add_argument("file", metavar="FILE")
    command.set_defaults(run=_dump)


def _add_load(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE")
    named.add_name(command)
    command.add_argument("--size", help="of the new map, not the dumped one's")
    command.set_defaults(run=load)


def _dump(options: argparse.Namespace) -> int:
    with ShmMap.attach(options.name, **named.trusted(options.name)) as m:
        report = m.dump(options.file)
    print(f"{report.entries:,} entries in {report.bytes:,} bytes ({report.seconds:.2f} s)")
    return 0


def load(options: argparse.Namespace) -> int:
    """Load a file into a map; return the exit code."""
    said = named.trusted(options.name)
    if options.size:
        said |= {"size": options.size, "on_mismatch": "raise"}
    try:
        m, report = merging.load(ShmMap, options.file, options.name, said)
    except (TypeError, ValueError) as error:  # pickles for a safe map; no size
        return findings.say(str(error))
    m.close()
    print(
        f"{report.written:,} entries written to {options.name}; {report.older:,} were older, "
        f"{report.expired:,} expired ({report.seconds:.2f} s)"
    )
    return 0


COMMANDS = (
    named.Command("dump", "write a map's entries to a file", _add_dump,
                  ("shmmap dump pages pages.dump",)),
    named.Command(
        "load", "merge a dump into a map, or into a new one: the newer entry of a key stays",
        _add_load, ("shmmap load pages.dump pages",)),
)
