"""`shmmap migrate`: bring over the entries of a map that another version or engine made.

That map is dumped by an interpreter that has the other version, or by this one with the other
engine, and loaded into the map that this version and engine have under the name: the newer entry
of a key stays, so it can be done again. The other map stays too, for those who still use it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile

from .. import _engine
from ..lifecycle.names import VARIABLE as NAMESPACE
from ..printable import printable_lines
from ..system.flavours import ENGINES, OWN
from . import copying, findings, inspection, named
from .inspection import SeenMap

_USABLE = ("ready", inspection.LINGERS, "foreign")
_WHERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def add_command(command: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    command.description = __doc__
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    named.add_name(command)
    command.add_argument(
        "--from-python", metavar="PYTHON", help="the interpreter that has the other version, such "
        "as /srv/old/venv/bin/python; default: this one"
    )
    command.add_argument("--from-engine", choices=tuple(ENGINES.values()),
                         help="the engine that made the other map")
    command.add_argument("--size", help="of the new map, not the other one's")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Dump the one and load the other; return the exit code."""
    source = _source(options)
    if isinstance(source, str):
        return findings.say(source)
    with tempfile.TemporaryDirectory(prefix="shmmap-migrate-") as folder:  # of mode 0700
        file = os.path.join(folder, "entries.dump")
        problem = _dump(options, source, folder, file)
        if problem:
            return findings.say(problem)
        options.file = file
        code = copying.load(options)
    if code == 0:
        print(f"the map of the {source.actual} stays as it is. Once nothing uses it any more: "
              f"{findings.unlink_command([source], yes=False)}")
    return code


def _source(options: argparse.Namespace) -> SeenMap | str:
    """Find the map whose entries are wanted, or say why there is none."""
    name = options.name
    there = [one for one in inspection.find_maps(name)
             if one.flavour != OWN and one.state in _USABLE]
    if options.from_engine:
        there = [one for one in there if one.actual.engine == options.from_engine]
    mine = [one for one in there if (one.state != "foreign") == (options.from_python is None)]
    if not mine and options.from_python:
        mine = there  # another installation of this version
    if not mine and there:
        return (f"map {name!r} of the {there[0].actual} can be read by that version only: say "
                "--from-python=PYTHON, the interpreter that has it (as /srv/old/venv/bin/python)")
    if not mine:
        return f"no other map {name!r} than that of the {OWN}, if any: python -m shmmap ls"
    if len(mine) > 1:
        said = " and ".join(str(one.actual) for one in mine)
        return f"map {name!r} is there of the {said}: say --from-engine, or one after the other"
    if mine[0].owner != os.geteuid():
        user = findings.user_name(mine[0].owner)
        return f"map {name!r} of the {mine[0].actual} belongs to {user}: run this as {user}"
    return mine[0]


def _dump(options: argparse.Namespace, source: SeenMap, folder: str, file: str) -> str:
    """Have the other one's entries written to a file; return what stood against it, or ""."""
    environment = {**os.environ, _engine.VARIABLE: source.actual.engine}
    environment.pop(NAMESPACE, None)  # the name is a full one
    if options.from_python is None:  # find the package that runs now
        path = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{_WHERE}{os.pathsep}{path}" if path else _WHERE
    else:
        environment.pop("PYTHONPATH", None)
    program = os.path.abspath(options.from_python or sys.executable)
    command = [program, "-m", "shmmap", "dump", "--", options.name, file]
    try:  # elsewhere than here, where a source tree could hide what is installed
        made = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        return f"{program} cannot be run: {error.strerror or error}"
    if made.returncode:
        why = made.stderr.strip() or f"exit code {made.returncode}"
        return f"map {options.name!r} of the {source.actual} was not dumped by {program}: {why}"
    print(f"from the map of the {source.actual}: {printable_lines(made.stdout.strip())}")
    return ""


COMMANDS = (
    named.Command(
        "migrate", "bring over the entries of a map that another version or engine made",
        add_command, ("shmmap migrate pages --from-engine pure",)),
)
