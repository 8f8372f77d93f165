"""What several commands take: a NAME, and which of the maps that have it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..lifecycle.names import check_name, namespace_of
from ..lifecycle.parameters import Options, check_mode
from ..system.flavours import OWN
from . import findings, inspection
from .seen import SeenMap


class Command(NamedTuple):
    """A command of the command line.

    Attributes:
        name, help: as `--help` lists it.
        add: says to its parser what it takes, and what runs it: a default `run`.
        examples: lines of its own `--help`.
    """

    name: str
    help: str
    add: Callable[[argparse.ArgumentParser], None]
    examples: tuple[str, ...]


def map_name(text: str) -> str:
    """Read a map's name, for argparse."""
    try:
        return check_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def say_missing(names: Iterable[str]) -> int:
    """Say which of these maps are not there; return the exit code."""
    missing = [name for name in names if not inspection.find_maps(name)]
    for name in missing:
        findings.say(findings.no_map(name))
    return int(bool(missing))


def not_usable(name: str, seen: SeenMap | None, to: str) -> str:
    """Say why a map cannot do something from here; `seen`: it, if it is of our flavour."""
    if seen is not None:
        return f"map {name!r} is {seen.state}, and cannot {to}: {seen.problem}"
    others = inspection.find_maps(name)
    if not others:
        return findings.no_map(name)
    theirs = others[0].actual
    how = "use the version of shmmap that has that" if theirs.layout != OWN.layout else (
        "SHMMAP_ENGINE=pure chooses that" if theirs.engine == "pure" else
        "unset SHMMAP_ENGINE, and see python -m shmmap doctor if it is not compiled here")
    return f"map {name!r} is of the {theirs}, and this is the {OWN}: {how}"


def add_name(command: argparse.ArgumentParser) -> None:
    """Have a command take a NAME."""
    command.add_argument("name", metavar="NAME", type=map_name)


def trusted(name: str) -> Options:
    """Return what has to be said to attach to a map that its owner shares, or that root looks into.
    Nothing is unpickled here, so nobody has to be trusted for more than the bytes."""
    said: Options = {"namespace": namespace_of(name)}  # a full name, whatever the environment says
    seen = inspection.find_map(name)
    if seen is None or seen.state not in ("ready", inspection.LINGERS) or not seen.control:
        return said
    try:
        check_mode(seen.control.MODE)
    except ValueError:
        return said
    said |= inspection.attach_options(seen)
    if os.geteuid() not in (0, seen.owner):
        del said["owner_uid"]
    return said
