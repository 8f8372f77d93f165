"""Closing a handle, which goes on where it was broken off.

Once a handle is sealed nobody closes it again. So what is left to do is noted first: where memory
runs out on the way, it is done when this process next opens or closes a map (see `unfinished`), and
where operations go on for too long, by the last of them.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from ..errors import ShmMapError
from ..locks.holdings import let_all_go
from ..operations.reporting import report
from ..system.unfinished import Undo, is_final
from . import event_ring, last_words, opening

if TYPE_CHECKING:
    from ..locks.hosts import MapHandle
    from .attachment import Attachment


class Closing:
    """The closing of one handle."""

    def __init__(self, handle: MapHandle, attachment: Attachment) -> None:
        self._handle = handle
        self._key = handle._handle_number
        self._attachment = attachment
        self._by_the_last = False
        self._patience_s = 0.0  # for another process that opens or closes the map
        self._undo = Undo(self._go_on, nullcontext)
        self._settle = self._undo.settle

    def run(self, patience_s: float) -> None:
        """Seal the handle and do what is left; wait for operations of others so long for that.

        Raises:
            MemoryError: the rest is done later.
        """
        handle, self._patience_s = self._handle, patience_s
        try:
            if handle._seal():
                self._run(patience_s)
            else:
                self._undo.drop()
        except BaseException as error:  # a signal handler's: finish all the same
            if not handle.closed:
                self._undo.drop()
            elif not isinstance(error, MemoryError):
                with suppress(MemoryError):
                    self._run(0)
            raise

    def _run(self, patience_s: float) -> None:
        """Do what is left of a sealed handle's closing."""
        handle = self._handle
        if handle.near is not None:
            handle.near.clear()
        self._settle()
        if self._undo.is_noted():
            opening.wait_for(handle, patience_s)
            self._by_the_last = True
            self._settle()
            while self._undo.is_noted() and handle._at_last is None:  # called while we were at it
                self._settle()

    def _go_on(self) -> bool:
        """Do what is left; tell whether that was all."""
        handle, found = self._handle, self._attachment
        if not last_words.are_kept(self._key):
            return True
        self._let_locks_go()
        if self._by_the_last:
            handle._at_last = self._settle
        if handle._under_way() != (0, 0):
            return False
        handle._at_last = None
        self._let_locks_go()  # what an operation had just taken as this was closed
        event_ring.tell_last(found)
        found.end_use(self._key)
        try:
            opening.release(found, self._patience_s)
            opening.finish_leaving()
        except BaseException as error:
            if not is_final(error):  # broken off
                raise
            report()  # whoever closes is not to blame
        last_words.forget(self._key)
        return True

    def _let_locks_go(self) -> None:
        if not self._attachment.is_down:
            with suppress(ShmMapError):
                let_all_go(self._attachment, self._key, self._handle._table)
