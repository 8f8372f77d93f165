"""How a handle comes to its map: opened, replaced first, or resized; what follows a sweep of it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .care import Care
from .checks import shown
from .errors import (
    ConfigMismatch,
    LockTimeout,
    MapClosed,
    MapCorrupted,
    MapNotFound,
    MapUnlinked,
    SharedMemoryFull,
    SystemCallError,
)
from .lifecycle import opening, reopening
from .lifecycle.gates import is_on
from .lifecycle.request import AS_IT_IS, Request, warn, warn_once

if TYPE_CHECKING:
    from .copies.replacing import ReplaceReport


class Entering(Care):
    """How a map is opened, and what a process that has it open does for it; part of ShmMap."""

    if TYPE_CHECKING:
        _ways: Any
        _handle_number: int
        _request: Request

        def _replace(self) -> tuple[Any, ReplaceReport]: ...

    def _open(self) -> None:
        """Open the map that is asked for; where it has another shape, replace it first, or begin to
        resize it, if so wanted. Of two processes that want it replaced by different shapes the last
        one has its way; of two that want it resized: see `moving.asking`."""
        number = self._handle_number or next(reopening.numbers)
        as_it_is = self._request._replace(on_mismatch=AS_IT_IS)
        while True:
            try:
                self._ways.join_map(self, number, self._request)
                return
            except opening.ToBeReplaced:
                pass
            except MapNotFound as gone:
                reopening.find_successor(self, number, as_it_is, gone)  # type: ignore[arg-type]
                return
            with suppress(MapNotFound, MapUnlinked):  # then it is another one's turn to be opened
                if self._request.on_mismatch == "resize":
                    self._ways.join_map(self, number, as_it_is)
                    self._ask_for_shape()
                    return
                try:
                    made, report = self._replace()
                except (
                    ConfigMismatch, LockTimeout, MapCorrupted, MemoryError, SharedMemoryFull,
                    SystemCallError,
                ) as error:
                    warn(f"map {as_it_is.name!r} was not replaced, and is used as it is: {error}")
                    self._ways.join_map(self, number, as_it_is)
                    return
                self._ways.join_map(self, number, as_it_is)
                made.close()
                if report.left_out:
                    warn(f"map {as_it_is.name!r} was replaced; {report.left_out:,} entries did not "
                         f"fit into the new one, {report.written:,} did")
                return

    @staticmethod
    def _check_tuning(auto_shards: object) -> object:
        """Refuse what is no AutoShards; return it."""
        if auto_shards is not None:
            from .moving.tuning import AutoShards

            if not isinstance(auto_shards, AutoShards):
                raise TypeError(
                    f"auto_shards={shown(auto_shards)} must be a shmmap.AutoShards, or None. What "
                    'turns it on is its gate: m.gates["auto-shards"] = True'
                )
        return auto_shards

    def _ask_for_shape(self) -> None:
        """Have the map, which is open, begin to move to the shape that is asked for; where that is
        not to be, say so once a process and map."""
        from .moving.asking import ask

        attached, request = self.attachment, self._request
        try:
            with self._inside():
                why = ask(self, attached, request.wanted)  # type: ignore[arg-type]
        except (MapClosed, MapUnlinked):  # the next operation finds that, too
            return
        if why:
            warn_once(request.name, attached.nonce,
                      f"map {request.name!r} was not resized, and is used as it is: {why}")

    def _after_round(self, attachment: Any) -> None:
        """After this process has swept a map: go on with a move that others have left, and have the
        tuner of the shard count look, where its gate is on. Raises what a look at a map does."""
        attachment.notice_move()
        is_tuned = is_on(attachment.control.FEATURES, "auto-shards")
        if is_tuned or attachment.is_tuned:
            from .moving.observing import consider

            attachment.is_tuned = is_tuned
            consider(attachment, self)  # type: ignore[arg-type]
