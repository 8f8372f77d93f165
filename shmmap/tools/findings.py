"""What the command line's reports are made of: lines of doctor, sizes, users, commands to paste."""

from __future__ import annotations

import os
import pwd
import shlex
import sys
from collections.abc import Iterable
from typing import NamedTuple

from ..printable import human as human
from ..printable import printable, printable_lines
from .seen import SeenMap

SHOWN = 4  # problems of a kind


class Line(NamedTuple):
    """One finding: OK, WARN or FAIL, about what, and what to do."""

    status: str
    about: str
    text: str
    todo: str = ""


def user_name(uid: int) -> str:
    """Name a user; the number where it has no name, or none can be asked for."""
    try:
        return printable(pwd.getpwuid(uid).pw_name, most=40)
    except (KeyError, OverflowError, OSError):
        return str(uid)


def no_map(name: str, others: Iterable[SeenMap] = ()) -> str:
    """Say that there is none of that name; `others`: but of another engine or layout."""
    if others := list(others):
        there = " and of the ".join(str(one.actual) for one in others)
        return f"no map {name!r} of that engine and layout: there is one of the {there}"
    return f"no map {name!r}: python -m shmmap ls lists those that are there"


def unlink_command(maps: Iterable[SeenMap], yes: bool = True) -> str:
    """Return the command that removes these maps without asking, one for each flavour;
    `yes=False`: it asks where processes use them, or may."""
    names: dict[str, list[str]] = {}
    for one in maps:
        names.setdefault(one.actual.as_options(), []).append(one.name)
    commands = []
    for options, some in sorted(names.items()):
        said = " ".join(filter(None, ("--yes" if yes else "", options, "--", *some)))
        commands.append(f"{python()} -m shmmap unlink {said}")
    return "; ".join(commands)


def mount_command(path: str) -> str:
    """Return the command that mounts memory where there is nothing, not even a folder to mount it
    on."""
    where = shlex.quote(os.path.realpath(path))  # of a link that leads nowhere too
    return f"mkdir -p {where} && mount -t tmpfs -o mode=1777 tmpfs {path}"


def python() -> str:
    """Write the interpreter that runs, for a shell."""
    return shlex.quote(sys.executable or "python3")


def say(problem: str) -> int:
    """Tell what stood against a command, on stderr; return its exit code."""
    if sys.stderr is not None:  # print() would take stdout
        print(f"shmmap: {printable_lines(problem)}", file=sys.stderr)
    return 1
