"""`shmmap replace`: a map of another shape takes a map's name and its entries."""

from __future__ import annotations

import argparse
import os
import warnings

from ..map import ShmMap
from . import findings, inspection, named
from .keys_written import WrongUsage

_SHAPE = ("size", "capacity", "shards", "value_size", "key_size", "on_full")


def add_command(command: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    named.add_name(command)
    command.add_argument("--size", help="bytes of the new map, as 32MB or 32MiB")
    for option, what in (
        ("capacity", "entries that it holds, instead of --size"), ("shards", "a power of two"),
        ("value-size", "bytes of a typical value"), ("key-size", "bytes of a typical key"),
    ):
        command.add_argument(f"--{option}", type=int, metavar="N", help=what)
    command.add_argument("--on-full", choices=("raise", "evict"), help="what a full map does")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Replace a map; return the exit code. Whoever has it open by its name goes over to the new one
    with the next operation."""
    said = {name: getattr(options, name) for name in _SHAPE if getattr(options, name) is not None}
    if not said:
        raise WrongUsage("replace: say what is to be different: --size, --shards, ...")
    seen = inspection.find_map(options.name)
    if seen is None or seen.control is None or seen.state not in ("ready", inspection.LINGERS):
        return findings.say(named.not_usable(options.name, seen, "be replaced"))
    if seen.control.EPHEMERAL:
        return findings.say(
            f"map {options.name!r} is ephemeral: the new one would go as this command ends. Have "
            'the program that uses it open it with on_mismatch="replace"'
        )
    if seen.owner != os.geteuid():
        return findings.say(
            f"map {options.name!r} belongs to {findings.user_name(seen.owner)}: only that user can "
            "replace it, since the new map belongs to who makes it"
        )
    before, nonce = seen.allocated, seen.control.NONCE
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            m = ShmMap(
                options.name, **{**named.trusted(options.name), **said}, on_mismatch="replace",
                on_unlinked="raise",
            )
        except (TypeError, ValueError) as error:
            raise WrongUsage(str(error)) from None
    for warning in told:
        findings.say(str(warning.message))
    with m:
        if m._live.nonce == nonce:
            if not told:
                print(f"{options.name} has this shape already")
            return 1 if told else 0
        figures = m.stats()
        print(
            f"replaced {options.name}: {figures.entries:,} entries; "
            f"{findings.human(before)} allocated before, {findings.human(figures.allocated_bytes)} "
            "now. Processes that opened it by name follow with their next operation; those with "
            "on_unlinked=\"raise\", and of `attach`, get MapUnlinked"
        )
    return 1 if told else 0  # what did not fit is gone


COMMANDS = (
    named.Command("replace", "give a map another shape; entries come along", add_command,
                  ("shmmap replace pages --value-size 500",)),
)
