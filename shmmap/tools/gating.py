"""`shmmap gates`: look at the feature gates of a map, and switch them, while it is used."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..lifecycle import gates
from ..map import ShmMap
from . import findings, inspection

if TYPE_CHECKING:
    from ..lifecycle.parameters import Options


def add_command(command: argparse.ArgumentParser, name: Callable[[str], str]) -> None:
    """Say what the command takes; `name` reads a map's."""
    command.add_argument("name", metavar="NAME", type=name)
    command.add_argument("gate", metavar="GATE", nargs="?", help="the gate to switch")
    ways = ("on", "off", "default")
    command.add_argument("to", metavar="|".join(ways), nargs="?", choices=ways)


def run(options: argparse.Namespace, trusted: Options) -> int:
    """Show the gates of a map, or switch one; return the exit code. The processes that use the map
    see it with their next operation."""
    if options.gate is not None:
        if options.to is None:
            return findings.say(f"gates: say what {options.gate!r} is to be: on, off or default")
        with ShmMap.attach(options.name, **trusted) as m:
            try:
                if options.to == "default":
                    m.gates.reset(options.gate)
                else:
                    m.gates[options.gate] = options.to == "on"
            except KeyError as error:
                return findings.say(str(error.args[0]))
    seen = inspection.find_map(options.name)
    if seen is None or seen.control is None or seen.state not in ("ready", inspection.LINGERS):
        return findings.say(f"no map {options.name!r} that could have gates: see `shmmap ls`")
    for gate in gates.all_gates(seen.control.FEATURES):
        state = ("on" if gate.on else "off") + ("" if gate.said else " (default)")
        print(f"{gate.name:<10} {state:<14} {gate.help}")
    return 0
