"""What `get_or_set` and `@cached` store, and read again: as well as it can be done.

That a result is kept is a wish. One that cannot be stored reaches its caller all the same, and
one that can no longer be read (its class is gone since a deploy, say) is computed anew. That is
told once, by a CacheWarning for each function or handle; what could not be stored is counted.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..checks import shown
from ..errors import CacheWarning, EntryTooLarge, MapClosed, MapCorrupted, MapUnlinked, ShmMapError
from ..operations._reads_cy import MISSING
from ..values._codecs_cy import pack as encode
from ..values._keys_cy import pack

if TYPE_CHECKING:
    from ..checks import Key, Value
    from .hosts import MapHandle

_NAME = __name__.partition(".")[0]
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class Notes:
    """What could not be kept of one function, or through one handle."""

    def __init__(self) -> None:
        self.times = 0
        self._is_told = False

    def tell(self, m: MapHandle, text: str) -> None:
        """Warn, the first time."""
        if not self._is_told:
            self._is_told = True
            warnings.warn(f"map {m.name!r}: {text}", CacheWarning, stacklevel=_level_of_user())


def notes_of(m: MapHandle) -> Notes:
    """Return the notes of a handle."""
    notes: Notes = m.__dict__.setdefault("_notes", Notes())
    return notes


def _level_of_user() -> int:
    """Return the `stacklevel` of who called into this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    return level


def read(m: MapHandle, key: Key, notes: Notes) -> Value:
    """Return the value of `key`, or MISSING: also where what is there cannot be unpickled."""
    try:
        return m.get(key, MISSING)
    except EntryTooLarge:  # a key longer than any that is there
        return MISSING
    except (ShmMapError, MemoryError):  # of the map; memory is short in this process only
        raise
    except Exception as error:
        pack(key)  # raises if it is no key at all
        if m._live.safe or not _comes_again(error, m.get, key, MISSING):
            raise
        notes.tell(
            m, f"the value of {shown(key)} cannot be read any more ({type(error).__name__}: "
            f"{error}). It is computed anew, and written over; so is each that cannot be read, "
            "without another warning. Was its class renamed or removed since it was stored?"
        )
        return MISSING


def _comes_again(error: Exception, act: Callable[..., object], *given: Value) -> bool:
    """Tell whether an act raises such an error each time: what a signal handler raises comes
    once."""
    try:
        act(*given)
    except Exception as again:
        return type(again) is type(error)
    return False


def _is_from_outside(error: Exception) -> bool:
    """Tell whether code other than this package's raised an error: a value's, or a handler's."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and not (
        str(trace.tb_frame.f_globals.get("__name__")).startswith(f"{_NAME}.")
    )


def keep(m: MapHandle, key: Key, value: Value, ttl: float | None, notes: Notes) -> bool:
    """Store a result; tell whether it could be. Raises only where there is no sound map any more.

    `ttl` has been checked: what is raised here comes of the value, or of the map.
    """
    try:
        m.set(key, value, ttl)
        return True
    except Exception as error:  # it does not pickle, is too large, there is no room, ...
        if isinstance(error, (MapUnlinked, MapClosed, MapCorrupted)):
            if not _comes_again(error, encode, value, m._coder):  # else a value's own maps
                raise
        elif _is_from_outside(error) and not _comes_again(error, m.set, key, value, ttl):
            raise
        for counted in {id(one): one for one in (notes, notes_of(m))}.values():
            counted.times += 1
        notes.tell(
            m, f"the result for {shown(key)} could not be stored ({type(error).__name__}: "
            f"{error}). Its caller has it all the same, and it is computed again each time; so is "
            "each that cannot be stored, without another warning: stats().uncached counts them"
        )
        return False
