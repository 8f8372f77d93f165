"""`shmmap unlink`: remove maps, of either engine, and what is left of half-made ones."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence

from ..errors import ShmMapError
from ..lifecycle import control
from ..memory.layout import LAYOUT_VERSION, constants
from ..printable import printable
from ..system import creation, segment
from ..system.blocks import block
from ..system.flavours import ENGINES, OWN, Flavour
from . import findings, inspection, named
from .inspection import SeenMap

K = constants()
SHOWN = 4  # of what could not be removed


def add_command(command: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    command.description = (
        "Remove the map that processes of this version and engine open by a name. A map of the "
        "same name that another version or the other engine made stays, unless it is asked for."
    )
    command.add_argument("names", metavar="NAME", type=named.map_name, nargs="+")
    command.add_argument("--yes", action="store_true", help="do not ask, live workers or not")
    add_flavour(command)
    command.add_argument("--all", action="store_true", help="the maps of every layout and engine")
    command.set_defaults(run=_run)


def add_flavour(command: argparse.ArgumentParser) -> None:
    """Have a command take a flavour of a name: see `chosen`."""
    command.add_argument("--engine", choices=tuple(ENGINES.values()),
                         help="the map that this engine made")
    command.add_argument("--layout", type=int, metavar="N",
                         help="the map of that layout version, which `ls` shows")


def chosen(seen: Sequence[SeenMap], engine: str | None, layout: int | None) -> list[SeenMap]:
    """Choose, of the maps of one name, those that were asked for; by default this process's."""
    if engine is None and layout is None:
        return [one for one in seen if one.flavour == OWN]
    wanted = OWN.layout if layout is None else layout
    return [one for one in seen
            if one.actual.layout == wanted and engine in (None, one.actual.engine)]


def _run(options: argparse.Namespace) -> int:
    """Remove maps; return the exit code."""
    done = True
    for name in options.names:
        seen = inspection.find_maps(name)
        wanted = seen if options.all else chosen(seen, options.engine, options.layout)
        if not wanted:
            findings.say("; ".join([findings.no_map(name, seen), *map(_how_to_remove, seen)]))
            done = False
            continue
        for one in wanted:
            done = attempt(name, options.yes, flavour=one.flavour) and done
        for one in inspection.find_maps(name):
            if one.flavour not in [each.flavour for each in wanted]:
                print(f"another map stays: {_how_to_remove(one)}")
    return int(not done)


def _how_to_remove(one: SeenMap) -> str:
    return f"{one.label}: {findings.unlink_command([one], yes=False)}"


def attempt(
    name: str, yes: bool, keep: Callable[[SeenMap], str] = lambda one: "", flavour: Flavour = OWN
) -> bool:
    """Remove a map as `remove` does; say what stood against it, and whether nothing did."""
    try:
        problem = remove(name, yes, keep, flavour)
    except PermissionError as error:
        problem = (
            f"map {name!r}: {error}" if error.errno else
            f"map {name!r} belongs to another user: run this as that user, or as root"
        )
    except (ShmMapError, OSError) as error:  # of one name; the others have their turn
        problem = f"map {name!r}: {error}"
    if problem:
        findings.say(problem)
    return not problem


def remove(
    name: str, yes: bool, keep: Callable[[SeenMap], str] = lambda one: "", flavour: Flavour = OWN
) -> str:
    """Remove a map, asking first where processes use it; return what stood against it, or "".

    `keep` says why it is to stay after all, or "": asked when nobody can make or open it.
    """
    asked = inspection.find_map(name, flavour)
    if asked is None:
        return f"no map {name!r}"
    if asked.owner != os.geteuid() and os.geteuid() != 0:
        raise PermissionError
    if not yes and in_use(asked):
        reason = _why_ask(asked)
        if sys.stdin is None or not sys.stdin.isatty():
            return f"map {name!r} {reason}: say --yes to remove it all the same"
        if not agreed(f"map {name!r} {reason}. Remove it? [y/N] "):
            return f"map {name!r} stays"
    with _as_owner(asked.owner), creation.creation_lock(name):
        now = inspection.find_map(name, flavour)  # nobody else makes or unlinks it from here on
        if now is None:
            return f"map {name!r} is gone already"
        if not yes and (_nonce(now) != _nonce(asked) or (in_use(now) and not in_use(asked))):
            return f"map {name!r} was opened or made anew meanwhile: run the command again"
        if reason := keep(now):
            return f"map {name!r} {reason}: it stays"
        _retire(now)
        why = control.remove_objects(name, flavour)
        left = [one for one in now.objects if os.path.lexists(f"{segment.SHM_DIRECTORY}/{one}")]
    gone = len(now.objects) - len(left)
    print(f"removed {now.label}: {gone} objects, {findings.human(now.allocated)}")
    if left:
        said = [f"{printable(one)}: {why.get(one, 'it was made anew meanwhile')}" for one in left]
        return f"map {name!r}: {len(left)} objects stay: {'; '.join(said[:SHOWN])}"
    return ""


def agreed(question: str) -> bool:
    """Ask at the terminal."""
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def in_use(one: SeenMap) -> bool:
    """Tell whether live processes use a map, or may."""
    return not one.leftover and (one.workers is None or bool(one.workers))


def _why_ask(one: SeenMap) -> str:
    if one.workers is None:
        return f"may be in use ({one.problem or one.unknown})"
    pids = ", ".join(str(worker.pid) for worker in one.workers[:8])
    more = f" and {len(one.workers) - 8} more" if len(one.workers) > 8 else ""
    return f"is in use by {len(one.workers)} live process(es): {pids}{more}"


def _nonce(one: SeenMap) -> int | None:
    return one.control.NONCE if one.control else None


def _retire(one: SeenMap) -> None:
    """Tell the processes that are attached. The creation lock is held.

    Only a segment that is surely a control segment of this layout is written to.
    """
    control = one.control
    if control is None or (control.MAGIC, control.LAYOUT) != (
        K["CONTROL_MAGIC"], LAYOUT_VERSION
    ):
        return
    path = segment.SHM_DIRECTORY + segment.control_name(one.name, one.flavour)
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not stop us
    descriptor = os.open(path, flags)
    try:
        word = K["STATE_RETIRED"].to_bytes(8, sys.byteorder)
        os.pwrite(descriptor, word, K["C_STATE"])
    finally:
        os.close(descriptor)


@block
def _as_owner(owner: int) -> Iterator[None]:
    """Be the owner while root unlinks: the creation lock is the owner's, and so is its file."""
    if os.geteuid() != 0 or owner in (0, -1):
        yield
        return
    try:
        _act_as(owner)
        yield
    finally:
        try:
            _act_as(0)  # also where a handler raised right after the change
        except BaseException:
            _act_as(0)
            raise


def _act_as(user: int) -> None:
    try:
        os.seteuid(user)
    except OSError as error:
        text = f"this process cannot act as {findings.user_name(user)}: {error.strerror}"
        raise OSError(error.errno, text) from None


COMMANDS = (
    named.Command("unlink", "remove maps, or what is left of them", add_command,
                  ("shmmap unlink pages",)),
)
