"""Removing ephemeral maps whose `linger=` is over: no process of theirs is left to do it.

Whoever opens such a map by its name replaces it. This is for all other names: a sweep of any map
calls it, and so does a process that makes a map and finds no room. It only looks at files of its
own user, and removes under the creation lock, which it does not wait for: another process is at it
then, or the next sweep comes. Of a map whose last worker was killed it stores when that was found
out: from then on the time counts.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

from ..errors import ShmMapError
from ..memory.layout import LAYOUT_VERSION, constants
from ..memory.words import ControlWords
from ..system import creation, segment
from ..system.flavours import OWN
from . import attached, lingering, names
from .control import LIVE, Control, Remains, open_control
from .parameters import check_mode

K = constants()
_CONTROL = re.compile(rf"shmmap\.({names.PATTERN}){re.escape(OWN.suffix)}")  # no other's


def reap(but: str = "") -> int:
    """Remove what is over, of all names but one; return how many maps."""
    removed = 0
    with suppress(OSError):
        for entry in os.listdir(segment.SHM_DIRECTORY):
            match = _CONTROL.fullmatch(entry)
            if match and match[1] != but:
                with suppress(ShmMapError, OSError, ValueError):
                    removed += _reap(match[1])
    return removed


def _reap(name: str) -> bool:
    """Remove a map if its time is over; note when it was found abandoned."""
    said = _glance(name)
    if said is None or attached.nonces(name):
        return False
    with creation.creation_lock(name, 0):
        found = open_control(name, check_mode(said.MODE), None, attached.nonces(name))
        if isinstance(found, Remains):
            found.remove()
            return True
        if found is not None:
            try:
                _note(found, name)
            finally:
                found.close()
    return False


def _glance(name: str) -> ControlWords | None:
    """Read the control segment of a map that lingers, or may come to; None: it is another's, or
    there is nothing to do about it."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not stop us
    descriptor = os.open(segment.SHM_DIRECTORY + segment.control_name(name), flags)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            return None
        data = os.pread(descriptor, K["C_BYTES_TOTAL"], 0)
    finally:
        os.close(descriptor)
    if len(data) < K["C_BYTES_TOTAL"]:
        return None
    words = ControlWords(data)
    is_ours = (words.MAGIC, words.LAYOUT) == (K["CONTROL_MAGIC"], LAYOUT_VERSION) and (
        words.STATE in LIVE
    )
    return words if is_ours and words.EPHEMERAL and words.LINGER_NS else None


def _note(control: Control, name: str) -> None:
    """Have the time count, of a map that nobody has open and nobody has left. The creation lock is
    held."""
    if not lingering.left_ns(control) and not control.is_used(name, control.MODE, None):
        control.LEFT_NS = lingering.now_ns()
