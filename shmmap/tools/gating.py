"""Show the feature gates of a map, or switch one.

A gate is a switch of a map, which all processes that use the map see with their next operation. It
outlives whoever switched it. Without a NAME: list the maps that have a switched gate. With a NAME:
show each gate, how it stands, and what it is for. "(default)": nobody has switched it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from ..lifecycle import gates
from ..map import ShmMap
from ..system.flavours import OWN
from . import findings, inspection, json_out, named
from .keys_written import WrongUsage
from .seen import SeenMap

_ALIVE = ("ready", inspection.LINGERS)


def add_command(command: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    command.description = __doc__
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.add_argument("name", metavar="NAME", type=named.map_name, nargs="?", help="a map's, as "
                         "`ls` prints it; none: list the maps that have a switched gate")
    known = ", ".join(one for one, _, _ in gates.KNOWN)
    command.add_argument("gate", metavar="GATE", nargs="?", help=f"the gate to switch: {known}")
    ways = ("on", "off", "default")
    command.add_argument(
        "to", metavar="|".join(ways), nargs="?", choices=ways, help="what it is to be; default: as "
        "if nobody had switched it: each process does what its version of shmmap has as the default"
    )
    json_out.add_option(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Show the gates of a map, or switch one; return the exit code. The processes that use the map
    see it with their next operation."""
    if options.name is None:
        return _list_switched(options.as_json)
    if options.gate is not None:
        if options.to is None:
            known = [one for one, _, _ in gates.KNOWN]
            if options.gate not in known:
                raise WrongUsage(f"no gate {options.gate!r}; there is {', '.join(known)}")
            raise WrongUsage(f"gates: say what {options.gate!r} is to be: on, off or default")
        with ShmMap.attach(options.name, **named.trusted(options.name)) as m:
            try:
                if options.to == "default":
                    m.gates.reset(options.gate)
                else:
                    m.gates[options.gate] = options.to == "on"
            except KeyError as error:
                raise WrongUsage(str(error.args[0])) from None
    seen = inspection.find_map(options.name)
    if seen is None or seen.control is None or seen.state not in _ALIVE:
        return findings.say(named.not_usable(options.name, seen, "have gates"))
    if options.as_json:
        _show([(seen, gates.all_gates(seen.control.FEATURES))])
        return 0
    for gate in gates.all_gates(seen.control.FEATURES):
        state = ("on" if gate.on else "off") + ("" if gate.said else " (default)")
        print(f"{gate.name:<12} {state:<14} {gate.help}")
    return 0


def _list_switched(as_json: bool) -> int:
    """List the maps that have a switched gate, in this version's layout and engine."""
    rows = []
    listed = []
    for seen in inspection.find_maps():
        if seen.control is not None and seen.state in _ALIVE and seen.flavour == OWN:
            switched = [gate for gate in gates.all_gates(seen.control.FEATURES) if gate.said]
            said = ", ".join(f"{gate.name} {'on' if gate.on else 'off'}" for gate in switched)
            rows += [(seen.label, said)] * bool(switched)
            listed += [(seen, switched)] * bool(switched)
    if as_json:
        _show(listed)
        return 0
    width = max((len(label) for label, _ in rows), default=0)
    for label, said in rows:
        print(f"{label:<{width}}  {said}")
    if not rows:
        print("no map has a switched gate")
    return 0


def _show(listed: Iterable[tuple[SeenMap, Iterable[Any]]]) -> None:
    """Print maps and gates of theirs as JSON."""
    json_out.show("gates", maps=[
        {"name": seen.name, "gates": [
            {"name": gate.name, "is_on": gate.on, "is_switched": gate.said, "help": gate.help}
            for gate in some
        ]} for seen, some in listed
    ])


COMMANDS = (
    named.Command("gates", "show a map's feature gates, or switch one", add_command,
                  ("shmmap gates pages",)),
)
