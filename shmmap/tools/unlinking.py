"""`shmmap unlink`: remove maps, of either engine, and what is left of half-made ones."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ..errors import ShmMapError
from ..lifecycle import control
from ..memory.layout import LAYOUT_VERSION, constants
from ..printable import printable
from ..system import creation, segment
from . import findings, inspection
from .inspection import SeenMap

K = constants()
SHOWN = 4  # of what could not be removed


def run(names: Sequence[str], yes: bool) -> int:
    """Remove maps; return the exit code."""
    return int(sum(not attempt(name, yes) for name in names) > 0)


def attempt(name: str, yes: bool, keep: Callable[[SeenMap], str] = lambda one: "") -> bool:
    """Remove a map as `remove` does; say what stood against it, and whether nothing did."""
    try:
        problem = remove(name, yes, keep)
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


def remove(name: str, yes: bool, keep: Callable[[SeenMap], str] = lambda one: "") -> str:
    """Remove a map, asking first where processes use it; return what stood against it, or "".

    `keep` says why it is to stay after all, or "": asked when nobody can make or open it.
    """
    asked = inspection.find_map(name)
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
        now = inspection.find_map(name)  # nobody else creates or unlinks it from here on
        if now is None:
            return f"map {name!r} is gone already"
        if not yes and (_nonce(now) != _nonce(asked) or (in_use(now) and not in_use(asked))):
            return f"map {name!r} was opened or made anew meanwhile: run the command again"
        if reason := keep(now):
            return f"map {name!r} {reason}: it stays"
        _retire(now)
        why = control.remove_objects(name)
        left = [one for one in now.objects if os.path.lexists(f"{segment.SHM_DIRECTORY}/{one}")]
    gone = len(now.objects) - len(left)
    print(f"removed {name}: {gone} objects, {findings.human(now.allocated)}")
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
    path = segment.SHM_DIRECTORY + segment.control_name(one.name)
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not stop us
    descriptor = os.open(path, flags)
    try:
        word = K["STATE_RETIRED"].to_bytes(8, sys.byteorder)
        os.pwrite(descriptor, word, K["C_STATE"])
    finally:
        os.close(descriptor)


@contextmanager
def _as_owner(owner: int) -> Iterator[None]:
    """Be the owner while root unlinks: the creation lock is the owner's, and so is its file."""
    if os.geteuid() != 0 or owner in (0, -1):
        yield
        return
    try:
        _act_as(owner)
        yield
    finally:
        _act_as(0)  # also where a handler raised right after the change


def _act_as(user: int) -> None:
    try:
        os.seteuid(user)
    except OSError as error:
        text = f"this process cannot act as {findings.user_name(user)}: {error.strerror}"
        raise OSError(error.errno, text) from None
