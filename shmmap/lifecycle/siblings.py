"""The maps of one name in all their flavours: see `flavours`. Which files are whose, and what a
user is told who opens one of them while there is another.

Files are only read here, as bytes. A part has its map's nonce in its name, and belongs to the
control segment that has the same.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from ..memory.layout import LAYOUT_VERSION, constants
from ..system import segment
from ..system.flavours import OWN, PATTERN, UNNAMED, Flavour, flavour_of, of_words
from .request import AS_IT_IS, Request, warn

K = constants()
_HEAD = struct.Struct("=4Q")  # MAGIC, LAYOUT, ENGINE, NONCE: at the start, in each layout so far
_NEW = "new[A-Za-z0-9._-]{0,100}"
_REST = re.compile(
    rf"(?:\.(?:(?P<nonce>[0-9a-f]{{16}})\..+"
    rf"|(?P<flavour>{PATTERN})(?:\.{_NEW})?|{_NEW}))?"
)
_CONTROL = re.compile(rf"(?:\.(?P<flavour>{PATTERN}))?")  # of what follows the map's name
_told: set[tuple[str, Flavour]] = set()  # of which this process has warned


class Head(NamedTuple):
    """The first words of a control segment, and its owner; `state` is 0 where only a process of
    its own layout knows where that is."""

    layout: int
    engine: int
    nonce: int
    state: int
    owner: int


def of_name(name: str, entries: Iterable[str]) -> list[str]:
    """Choose, of the files in /dev/shm, those that a name's maps can have, of any flavour."""
    start = f"shmmap.{name}"
    return [entry for entry in entries
            if entry.removeprefix("sem.").startswith(start) and _match(name, entry)]


def _match(name: str, entry: str) -> re.Match[str] | None:
    return _REST.fullmatch(entry.removeprefix("sem.")[len(f"shmmap.{name}"):])


def by_flavour(name: str, entries: Iterable[str]) -> dict[Flavour, list[str]]:
    """Share the files of a name among its maps. Those of parts without any control segment are
    given to this process's flavour, which removes them where it makes or unlinks the name."""
    found: dict[Flavour, list[str]] = {}
    parts: dict[int, list[str]] = {}
    for entry in entries:
        match = _match(name, entry)
        if match is not None and match["nonce"]:
            parts.setdefault(int(match["nonce"], 16), []).append(entry)
        else:
            found.setdefault(flavour_of(match["flavour"] if match else None), []).append(entry)
    if len(found) < 2:
        whose = next(iter(found), OWN)
        found.setdefault(whose, []).extend(entry for some in parts.values() for entry in some)
        return found
    return _share_out(found, parts)


def _share_out(
    found: dict[Flavour, list[str]], parts: dict[int, list[str]]
) -> dict[Flavour, list[str]]:
    """Give each part to the control segment that has its nonce: first to those of this user, and
    of this flavour, since a stranger may have written any nonce into his."""
    claims = []
    for flavour, entries in found.items():
        for entry in entries:
            head = read_head(f"/{entry}")
            claims.append((head is None or head.owner != os.geteuid(), flavour != OWN, flavour,
                           0 if head is None else head.nonce))
    unsure = set(found)
    for _, _, flavour, nonce in sorted(claims):
        if nonce in parts:
            found[flavour] += parts.pop(nonce)
            unsure.discard(flavour)
    left = [entry for some in parts.values() for entry in some]
    # they may be a map's whose control segment cannot be read: then they go with that one
    others = sorted(flavour for flavour in unsure if flavour != OWN)
    whose = others[0] if others else OWN if OWN in found else min(found)
    found[whose] += left
    return found


def read_head(label: str) -> Head | None:
    """Read the first words of a control segment; None: it is none, or cannot be read."""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not stop
        descriptor = os.open(segment.SHM_DIRECTORY + label, flags)
        try:
            owner = os.fstat(descriptor).st_uid
            data = os.pread(descriptor, K["C_STATE"] + 8, 0)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    if len(data) < _HEAD.size:
        return None
    magic, layout, engine, nonce = _HEAD.unpack_from(data)
    if magic != K["CONTROL_MAGIC"]:
        return None
    state = 0
    if layout == LAYOUT_VERSION and len(data) == K["C_STATE"] + 8:
        state = struct.unpack_from("=Q", data, K["C_STATE"])[0]
    return Head(layout, engine, nonce, state, owner)


def others(name: str, owner: int) -> list[Flavour]:
    """List in which other flavours a user has a map of a name, as far as that can be seen."""
    found = []
    start = f"shmmap.{name}"
    with_flavour = f"{start}.v"
    with suppress(OSError):
        for entry in os.listdir(segment.SHM_DIRECTORY):
            if not entry.startswith(with_flavour) and entry != start:  # as most of them
                continue
            match = _CONTROL.fullmatch(entry, len(start))
            if not match or (flavour := flavour_of(match["flavour"])) == OWN:
                continue
            head = read_head(f"/{entry}")
            if head is None or head.owner != owner:
                continue
            if flavour == UNNAMED:
                found.append(of_words(head.layout, head.engine))
            elif flavour.layout != LAYOUT_VERSION or head.state == K["STATE_READY"]:
                found.append(flavour)
    return sorted(found)


def tell(request: Request) -> None:
    """Warn, once a process, where a map is opened or made and another flavour of its name is
    there: two services that are meant to share one would each have half."""
    if request.on_mismatch == AS_IT_IS or request.nonce is not None:
        return
    name, owner = request.name, request.owner_uid
    for one in others(name, os.geteuid() if owner is None else owner):
        if (name, one) not in _told:
            _told.add((name, one))
            warn(
                f"map {name!r} is there twice: this process uses that of the {OWN}; processes of "
                f"the {one} have another one, and share nothing with it. {advice(name, one)}"
            )


def advice(name: str, one: Flavour) -> str:
    """Say how the entries of a map of another flavour come over, and how it goes."""
    source = (f"--from-engine={one.engine}" if one.layout == LAYOUT_VERSION else
              "--from-python=PYTHON, the interpreter that has the other version of shmmap")
    return (
        f"Its entries come over with: python -m shmmap migrate {name} {source}. Once nothing uses "
        f"it any more, remove it: python -m shmmap unlink {name} {one.as_options()}"
    )


def hint(name: str, owner: int) -> str:
    """Return what to add where a user finds no map of a name; "": nothing."""
    found = others(name, owner)
    return "".join(f". There is one of the {one}: {advice(name, one)}" for one in found[:1])
