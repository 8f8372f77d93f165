"""Copies of a map that C code makes key by key: `dict(m)`, `{**m}`, `f(**m)`, `OrderedDict(m)`.

Such code asks for `m.keys()`, and then for the value of each. An entry that another process
removes in between would end the whole copy with KeyError, where `dict(m.items())` goes on. So
the keys are listed together with what their values are stored as, and a key that is gone when it
is asked for gets the value that it was listed with.

Nobody else gets such a value. C code that copies calls `keys`, iterates, and looks up, all while
one and the same call of one frame is being run, and looks the keys up in the order, and as the
very objects, in which they were listed. A loop of Python code is at another place each time.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from functools import partial
from threading import get_ident
from types import FrameType
from typing import TYPE_CHECKING

from ..checks import Key, Value
from ._decoding_cy import decode_listed
from ._listing_cy import list_raw
from .order import in_order

if TYPE_CHECKING:
    from .views import MapListings

Place = tuple[int, int]


def place_of(frame: FrameType) -> Place:
    """Tell a frame, and where in its code it is."""
    return id(frame), frame.f_lasti


def _is_behind(place: Place) -> bool:
    """Tell whether this code is called from a place, directly or not."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if place == (id(frame), frame.f_lasti):
            return True
        frame = frame.f_back
    return False


class _Copy:
    """A copy that is under way: where it is made, what was listed and not asked for yet, and
    whether all was listed."""

    __slots__ = ("is_listed", "place", "waiting")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.waiting: deque[tuple[Key, int, bytes]] = deque()
        self.is_listed = False


class Copying:
    """The copies of one handle that are under way, by thread. While there is one, the handle's
    `copying` is this, and each lookup comes by here."""

    def __init__(self) -> None:
        self._under_way: dict[int, _Copy] = {}

    def list_keys(self, handle: MapListings, place: Place) -> Iterator[Key]:
        """List the keys, and remember their values until each was asked for."""
        copy = self._under_way[get_ident()] = _Copy(place)
        handle._copy_by(self)
        try:
            entries: Iterator[tuple[Key, int, bytes]] = in_order(partial(list_raw, handle))
            for entry in entries:
                copy.waiting.append(entry)
                yield entry[0]
            copy.is_listed = True
        finally:
            if not copy.is_listed or not copy.waiting:
                self._end(handle)

    def answer(self, handle: MapListings, key: Key, value: Value, missing: Value) -> Value:
        """Return the value of a key that was looked up, or the one that it was listed with."""
        copy = self._under_way.get(get_ident())
        if copy is None:
            return value
        if not _is_behind(copy.place):  # it was broken off
            self._end(handle)
        elif copy.waiting and copy.waiting[0][0] is key:
            _, kind, raw = copy.waiting.popleft()
            if copy.is_listed and not copy.waiting:
                self._end(handle)
            if value is missing:
                return decode_listed(handle, kind, raw, key)
        return value

    def _end(self, handle: MapListings) -> None:
        """Forget this thread's copy."""
        self._under_way.pop(get_ident(), None)
        if not self._under_way:
            handle._copy_by(None)
            if self._under_way:  # another thread has just begun one
                handle._copy_by(self)
