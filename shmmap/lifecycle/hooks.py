"""`m.on(kind, callback)`: have a callback called for each event of a map, whoever has met it.

A thread of this process looks into the map's ring four times a second, while there is a callback
and its handle is open. What comes faster than the ring is long (256) is counted, and not told.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import MapClosed, MapUnlinked, ShmMapError
from ..memory.events import check_kind
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
_RECENT = 128  # of the last so many events one may still be half written: it is waited for, once
Callback = Callable[[Event], object]


class _Hook(NamedTuple):
    """What is called, and from which event of which map on."""

    kind: str | None
    callback: Callback
    nonce: int
    after: int

    def wants(self, event: Event, nonce: int) -> bool:
        """Tell whether it is to be called for an event of a map."""
        return self.kind in (None, event.kind) and (
            event.number > self.after or nonce != self.nonce)


class Hooks:
    """The callbacks of one handle, in one process."""

    def __init__(self, m: Opened) -> None:
        self._map = weakref.ref(m)
        self._hooks: dict[object, _Hook] = {}
        self._due: deque[tuple[object, Event]] = deque()  # what is left where a callback broke off
        self._seen: tuple[int, int] = self._now(m)
        self._gap = 0  # the number that was waited for last
        me = weakref.ref(self)
        self._background = Background(
            lambda: (one := me()) is not None and one._step(), INTERVAL_S)

    def add(self, m: Opened, kind: str | None, callback: Callback) -> Callable[[], None]:
        """See `Care.on`."""
        check_kind(kind)
        if not callable(callback):
            raise TypeError(f"callback must be callable, not {type(callback).__name__}")
        key = object()
        self._hooks[key] = _Hook(kind, callback, *self._now(m))
        self._background.start()
        return lambda: (self._hooks.pop(key, None), None)[1]

    @staticmethod
    def _now(m: Opened) -> tuple[int, int]:
        with m._inside() as attached:
            return attached.nonce, attached.control.EVENT_NEXT

    def _step(self) -> bool:
        """Tell what is new; False: nobody is to be told any more."""
        m = self._map()
        if m is None or not self._hooks:
            return False
        try:
            with m._inside() as attached:
                nonce, seen = self._seen
                seen = seen if nonce == attached.nonce else 0  # another map has the name now
                nonce = attached.nonce
                new = self._read(attached, nonce, seen)
        except MapUnlinked:
            return m._follows
        except MapClosed:
            return False
        except ShmMapError:  # the next look finds out
            return True
        self._due.extend([(key, event) for event in new
                          for key, hook in self._hooks.copy().items() if hook.wants(event, nonce)])
        while self._due:
            key, event = self._due.popleft()
            if (one := self._hooks.get(key)) is not None:
                self._call(m.name, one.callback, event)
        return True

    def _read(self, attached: Attachment, nonce: int, seen: int) -> list[Event]:
        """Return what has come since, up to what is still half written, unless that was waited for
        already: its writer has died."""
        newest = attached.control.EVENT_NEXT  # first: what comes after it is met by the next look
        new = [one for one in read_events(attached.control, seen) if one.number <= newest]
        whole = {one.number for one in new}
        gap = next((number for number in range(max(seen, newest - _RECENT, 0) + 1, newest + 1)
                    if number not in whole), 0)
        if gap and gap != self._gap:
            self._gap, newest = gap, gap - 1
            new = [one for one in new if one.number < gap]
        self._seen = nonce, newest
        return new

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
