"""`m.on(kind, callback)`: have a callback called for each event of a map, whoever has met it.

A thread of this process looks into the map's ring four times a second, while there is a callback
and its handle is open. What comes faster than the ring is long (256) is counted, and not told.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from ..checks import shown
from ..errors import MapClosed, MapUnlinked, ShmMapError
from ..memory.events import NUMBERS
from ..system.background import Background
from .event_ring import Event, read_events

if TYPE_CHECKING:
    from .attachment import Attachment

    class Opened(Protocol):
        """A handle."""

        name: str
        _follows: bool

        def _inside(self) -> AbstractContextManager[Attachment]: ...

INTERVAL_S = 0.25
Callback = Callable[[Event], object]


class Hooks:
    """The callbacks of one handle, in one process."""

    def __init__(self, m: Opened) -> None:
        self._map = weakref.ref(m)
        self._callbacks: list[tuple[str | None, Callback]] = []
        self._seen: tuple[int, int] = self._now(m)
        me = weakref.ref(self)
        self._background = Background(
            lambda: (one := me()) is not None and one._step(), INTERVAL_S)

    def add(self, kind: str | None, callback: Callback) -> Callable[[], None]:
        """See `Care.on`."""
        if kind is not None and kind not in NUMBERS:
            raise ValueError(f"kind={shown(kind)} must be None, for all, or one of "
                             f"{', '.join(NUMBERS)}")
        if not callable(callback):
            raise TypeError(f"callback must be callable, not {type(callback).__name__}")
        one = kind, callback
        self._callbacks.append(one)
        self._background.start()

        def end() -> None:
            self._callbacks[:] = [other for other in self._callbacks if other is not one]

        return end

    @staticmethod
    def _now(m: Opened) -> tuple[int, int]:
        with m._inside() as attached:
            return attached.nonce, attached.control.EVENT_NEXT

    def _step(self) -> bool:
        """Tell what is new; False: nobody is to be told any more."""
        m = self._map()
        if m is None or not self._callbacks:
            return False
        try:
            with m._inside() as attached:
                nonce, seen = self._seen
                seen = seen if nonce == attached.nonce else 0  # another map has the name now
                new = read_events(attached.control, seen)
                self._seen = attached.nonce, attached.control.EVENT_NEXT
                if new:
                    self._seen = attached.nonce, new[-1].number
        except MapUnlinked:
            return m._follows
        except MapClosed:
            return False
        except ShmMapError:  # the next look finds out
            return True
        for event in new:
            for kind, callback in list(self._callbacks):
                if kind in (None, event.kind):
                    self._call(m.name, callback, event)
        return True

    @staticmethod
    def _call(name: str, callback: Callback, event: Event) -> None:
        try:
            callback(event)
        except Exception:
            import logging

            logging.getLogger("shmmap").exception(
                "map %r: what was to be called for an event raised: %s", name, event)


def hooks_of(m: Opened) -> Hooks:
    """Return the hooks of a handle; in a forked child new ones: the parent's thread is not here."""
    from ..system.process import this_process

    me = this_process()
    process, found = m.__dict__.get("_hooks", (0, None))
    if found is None or process != me:
        found = Hooks(m)
        m.__dict__["_hooks"] = me, found
    hooks: Hooks = found
    return hooks
