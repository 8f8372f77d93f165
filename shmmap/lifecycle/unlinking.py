"""Removing a map by its name, without opening it."""

from __future__ import annotations

import os

from ..checks import flag
from ..errors import MapNotFound
from ..memory import geometry
from ..memory.layout import LAYOUT_VERSION, constants
from ..system import creation, descriptors, segment
from ..system.process import this_process
from . import control, opening, siblings
from .names import full_name

K = constants()


def unlink(name: str, missing_ok: bool = False, *, namespace: str | None = None) -> bool:
    """Remove a map from the machine by its name; tell whether there was one.

    As `m.unlink()`, without a handle: whatever the map's parameters are, and whether or not it can
    be opened. Processes that have it open get MapUnlinked. The entries are gone. Maps of that name
    that another version or the other engine made stay: `python -m shmmap unlink NAME --all`.

    Args:
        name: the map's name.
        missing_ok: True: nothing is raised where there is no such map.
        namespace: as for ShmMap: not given, that of SHMMAP_NAMESPACE, if there is one; "": none.

    Raises:
        MapNotFound: there is none (and missing_ok is False).
        PermissionError: it is another user's.
        LockTimeout: another process is making or unlinking it, and does not end.

    >>> shmmap.unlink("doctest", missing_ok=True)
    False
    """
    name = full_name(name, namespace)
    missing_ok = flag(missing_ok, "missing_ok")
    while True:
        try:
            with creation.creation_lock(name) as turn:
                was_there = _remove(name, turn)
            break
        except creation.Forked:
            continue
    if not was_there and not missing_ok:
        raise MapNotFound(
            f"no map {name!r} to unlink: check the spelling (python -m shmmap ls), or say "
            "missing_ok=True" + siblings.hint(name, os.geteuid())
        )
    return was_there


def _remove(name: str, turn: creation.Turn) -> bool:
    """Remove what has a map's name; tell whether anything had it. The creation lock is held."""
    label = segment.control_name(name)
    if segment.identity_at(label) is None:
        return False
    opening.refuse_to_unlink(name)
    trusted = None if os.geteuid() else segment.owner_at(label)
    opener = this_process()
    try:
        descriptor, status = segment.open_checked(label, 0o666, trusted)
    except MapNotFound:
        return False
    identity = status.st_dev, status.st_ino
    is_whole = status.st_size == geometry.control_bytes()
    try:
        found = control.map_control(descriptor, status.st_size, identity) if is_whole else None
    finally:
        descriptors.close_own(descriptor, opener, identity)
    turn.check()
    if found is not None and (found.MAGIC, found.LAYOUT) == (K["CONTROL_MAGIC"], LAYOUT_VERSION):
        control.Remains(name, identity, found).remove()
        return True
    if found is not None:
        found.close()
    control.remove_objects(name)  # of what is no map: all that can only belong to it
    return True
