"""Change a map's shape while all who use it go on.

Nobody has to restart, or to wait: entries move a group of shards at a time. What is not said stays
as it is. First this says what it takes, and refuses what the entries do not fit into. With nothing
but a NAME: go on with a change that was begun, if there is one. Ctrl-C leaves the map as far as it
is; it works like that, and can go on, or back.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import TYPE_CHECKING

from ..errors import ShmMapError
from ..lifecycle.control import geometry_of
from ..lifecycle.request import SHAPE
from ..map import ShmMap
from ..memory.geometry import parse_size
from ..memory.table import read_table
from ..moving import fitting, resizing, wish
from . import findings, inspection, named
from .keys_written import WrongUsage

if TYPE_CHECKING:
    from ..lifecycle.attachment import Attachment
    from ..lifecycle.parameters import Options
    from ..memory.geometry import Geometry
    from ..moving.mover import Progress

_WIDTH = 40
_LINES = 4  # of progress, where there is no terminal
_ALIVE = ("ready", inspection.LINGERS)


class _Enough(Exception):
    """Others go on from here."""


def add_command(command: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    command.description = __doc__
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    named.add_name(command)
    command.add_argument("--shards", type=int, metavar="N", help="a power of two")
    command.add_argument("--size", help="bytes of all its memory, as 32MB or 32MiB")
    for option, letter, what in (
        ("capacity", "N", "entries that it holds, instead of --size"),
        ("value-size", "B", "bytes of a typical value"),
        ("key-size", "B", "bytes of a typical key"),
    ):
        command.add_argument(f"--{option}", type=int, metavar=letter, help=what)
    command.add_argument("--on-full", choices=("raise", "evict"), help="what a full map does")
    command.add_argument("--rate", type=int, metavar="N",
                         help="entries a second, at most; default: as fast as it goes")
    command.add_argument("--no-wait", action="store_true", help="begin it, and leave the rest to "
                         "the processes that use the map")
    command.add_argument("--cancel", action="store_true",
                         help="go back to the shape that it had before")
    command.add_argument("--dry-run", action="store_true",
                         help="only say what it takes, or how far it is")
    command.set_defaults(run=run, refuse=command.error)


def run(options: argparse.Namespace) -> int:
    """Resize a map, or go on with that, or take it back; return the exit code."""
    said: Options = {}
    for one in SHAPE:
        if getattr(options, one) is not None:
            said[one] = getattr(options, one)
    if options.cancel and (said or options.no_wait or options.dry_run or options.rate is not None):
        options.refuse("--cancel goes back to the shape that the map had: say nothing else with it")
    try:
        wish.read_rate(options.rate)
    except ValueError as error:
        raise WrongUsage(str(error)) from None
    seen = inspection.find_map(options.name)
    if seen is None or seen.control is None or seen.state not in _ALIVE:
        return findings.say(named.not_usable(options.name, seen, "be resized"))
    if moving := inspection.move_in_words(seen.control):
        print(f"{options.name} is moving: {moving}")
    elif not said:
        print(f"{options.name} is not moving. It has {_words(geometry_of(seen.control))}")
        if options.rate is not None:  # it may just have ended: that is no wrong usage
            print("--rate is how fast it moves to another shape: --shards, --size, ... say which")
    if not said and (options.dry_run or not moving):
        return 0
    if seen.owner != os.geteuid():
        return findings.say(
            f"map {options.name!r} belongs to {findings.user_name(seen.owner)}: only that user can "
            "resize it, since new segments belong to who makes them"
        )
    with ShmMap.attach(options.name, **named.trusted(options.name)) as m:
        try:
            return _resize(m, options, said)
        except (TypeError, ValueError) as error:
            raise WrongUsage(str(error)) from None
        except ShmMapError as error:
            return findings.say(f"{error}{_how_to_go_on(m)}")
        except KeyboardInterrupt:
            findings.say(f"interrupted{_how_to_go_on(m) or '; it is not moving'}")
            return 128 + signal.SIGINT


def _resize(m: ShmMap, options: argparse.Namespace, said: Options) -> int:
    attached = m._live
    is_moving = read_table(attached.control).is_moving
    if said and is_moving and options.dry_run:
        return findings.say("what that takes can be told once it is not moving any more")
    if said and not is_moving:
        if not m._in_one_map(lambda attached: _announce(m, attached, said)):
            print(f"{m.name} has this shape already")
            return 0
        if options.dry_run:
            return 0
    bar = _Bar(m.name, options.no_wait)
    try:
        if options.cancel:
            m._in_one_map(lambda attached: resizing.cancel(attached, bar.show))
        else:
            m.resize(**said, rate=options.rate, progress=bar.show)
    except _Enough:
        pass
    finally:
        bar.end()
    if moving := inspection.move_in_words(m._live.control):
        print(f"{m.name} is moving: {moving}. {_who_goes_on(m)}")
    else:
        print(f"{m.name} has {_words(m._live.geometry)} now, and {len(m):,} entries")
    return 0


def _announce(m: ShmMap, attached: Attachment, said: Options) -> bool:
    """Say what it takes, before anything moves, and refuse what cannot fit; False: it has that
    shape."""
    wanted = wish.plan_wish(attached, wish.read_wish(attached.parameters, said))
    if (wanted.shape, wanted.parameters) == (attached.geometry, wanted.actual):
        return False
    size = said.get("size")
    if size is not None and 2 * wanted.shape.total_bytes < parse_size(size):
        shape = wanted.shape
        raise ValueError(
            f"size={size!r} is more than {shape.shards} shard(s) of slots of {shape.slot_size} "
            f"bytes can have, {shape.total_bytes:,}: say --shards or --value-size, too"
        )
    forecast = fitting.refuse_what_cannot_fit(m, wanted)
    print(f"{m.name} has {_words(attached.geometry)}; it will have {_words(wanted.shape)}")
    print(f"it takes {wanted}")
    print(forecast)
    if sys.stdout is not None:
        sys.stdout.flush()
    return True


def _words(shape: Geometry) -> str:
    return (f"{shape.shards:,} shard{'s' * (shape.shards > 1)} of {shape.slots:,} slots of "
            f"{shape.slot_size:,} bytes")


def _who_goes_on(m: ShmMap) -> str:
    seen = inspection.find_map(m.name)
    others = [one for one in (seen and seen.workers) or () if one.pid != os.getpid()]
    if not others:
        return "Nobody uses it just now: the next process that does goes on"
    one = len(others) == 1
    return (f"The {'process' if one else f'{len(others):,} processes'} that "
            f"use{'s' * one} it go{'es' * one} on with that")


def _how_to_go_on(m: ShmMap) -> str:
    """Say how far the map is, and what can be done; "": it is not moving."""
    try:
        moving = inspection.move_in_words(m._live.control)
    except (ShmMapError, ValueError):  # it is not there any more
        return ""
    if not moving:
        return ""
    command = f"{findings.python()} -m shmmap resize {m.name}"
    return (f"\n{m.name} is moving: {moving}. Nothing is lost, and it can be used like that. "
            f"{_who_goes_on(m)}. To see to it: {command}; to go back: {command} --cancel")


class _Bar:
    """How far it is: a line that a terminal shows anew, or a few lines in a log."""

    def __init__(self, name: str, is_enough: bool) -> None:
        self._name = name
        self._is_enough = is_enough
        out = self._out = sys.stderr
        self._is_terminal = out is not None and out.isatty() and not (
            os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        )
        self._shown = 0

    def show(self, progress: Progress) -> None:
        """Show it, if that is worth a line; where others are to go on, that is all from here."""
        if self._out is not None:
            step = int((_WIDTH if self._is_terminal else _LINES) * progress.done)
            line = (f"{progress.done:4.0%}, {progress.entries:,} entries in "
                    f"{progress.seconds:.1f} s")
            if self._is_terminal:
                bar = "#" * step
                self._out.write(f"\r{self._name} [{bar:{_WIDTH}}] {line}\033[K")
                self._out.flush()
                self._shown = 1
            elif self._shown < step < _LINES:
                self._shown = step
                self._out.write(f"{self._name}: {line}\n")
        if self._is_enough and progress.done > 0:
            raise _Enough

    def end(self) -> None:
        """End the line."""
        if self._is_terminal and self._shown and self._out is not None:
            self._out.write("\n")
            self._out.flush()


COMMANDS = (
    named.Command("resize", "change a map's shape while all go on using it", add_command,
                  ("shmmap resize pages --size 64MB --dry-run", "shmmap resize pages --shards 16")),
)
