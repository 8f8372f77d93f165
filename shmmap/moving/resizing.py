"""Changing a map's shape: what `m.resize` does, from what is asked for to where it is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from ..errors import ShmMapError
from ..lifecycle.control import shape_of
from ..memory import events
from ..memory._clock_cy import monotonic
from ..memory.table import read_table, row_of
from ..system.tasks import sleep
from .changing import Busy, begin, refuse_others
from .fitting import refuse_way_back, refuse_what_cannot_fit
from .mover import Mover, Progress, progress_of
from .watch import look_after
from .wish import plan_wish, read_rate, read_wish

if TYPE_CHECKING:
    from ..copies.hosts import OpenMap
    from ..lifecycle.attachment import Attachment
    from ..lifecycle.parameters import Options

Note = Callable[[Progress], object]
InMap = Callable[[Callable[["Attachment"], object]], object]
_PAUSE_S = 0.02
_ANOTHER = -1  # the number of no generation


class Resize:
    """A change of a map's shape that is under way, or over: `ShmMap.resize` returns it."""

    def __init__(self, in_map: InMap) -> None:
        self._in_map = in_map

    def progress(self) -> Progress:
        """Return how far it is, as the map says: also what another process has done."""
        return cast("Progress", self._in_map(progress_of))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing moves any more; tell whether that is so. `timeout`: seconds."""
        until = None if timeout is None else monotonic() + timeout
        while not self.progress().is_over:
            if until is not None and monotonic() >= until:
                return False
            sleep(_PAUSE_S)
        return True

    def cancel(self, progress: Note | None = None) -> None:
        """Have the map go back to the shape that it had, and wait until it has; nothing is lost.
        Where the change is over, nothing is done. `progress`: as for `resize`.

        Raises:
            MapFull: what has come since does not fit into that shape; it goes on as it was.
        """
        self._in_map(lambda attachment: cancel(attachment, progress))

    def __repr__(self) -> str:
        try:
            found = self.progress()
        except ShmMapError as error:  # closed, or unlinked: that is no fault of whoever asks
            return f"<Resize: {type(error).__name__}>"
        return f"<Resize: {found.done:.0%} in {found.shards:,} shards>"


def resize(
    m: OpenMap, attachment: Attachment, said: Options, rate: float | None, note: Note | None,
    wait: bool, refuse: Callable[[], None] | None = None,
) -> None:
    """Have a map move to the shape that is said (nothing: to where it is on its way, at that rate,
    if one is said), and with `wait` see to it until it is there. What cannot fit is refused before
    anything moves.

    A map that is on its way to another shape, or back, is moved to the end of that first, whatever
    `wait` says. `refuse`: raises where that is not to be waited for, or what is said is not wanted
    any more; called before the map begins to move.
    """
    wanted, number, limit = None, None, read_rate(rate)
    refuse_others(attachment)
    if said:
        wanted = read_wish(attachment.parameters, said)
    elif limit and read_table(attachment.control).is_moving:
        attachment.control.MOVE_RATE = limit
    while True:
        mover = Mover(attachment, note)
        try:
            if wanted is not None:
                if not read_table(attachment.control).is_moving:
                    refuse_what_cannot_fit(m, plan_wish(attachment, wanted))
                if refuse is not None:
                    refuse()
                begin(mover.handle, attachment, mover.groups, wanted, wanted.plan(), limit)
                table = read_table(attachment.control)
                number = table.changes
                if table.is_moving:
                    events.note_resize(attachment, attachment.geometry, is_done=False)
            break
        except Busy:
            if refuse is not None:
                mover.close()
                raise
            mover.run(_ANOTHER)
        except BaseException:
            mover.close()
            raise
    if wait:
        mover.run(number)
    else:
        mover.close()
        look_after(attachment)


def cancel(attachment: Attachment, note: Note | None = None) -> None:
    """See `Resize.cancel`."""
    mover = Mover(attachment, note)
    try:
        table = read_table(attachment.control)
        if table.is_moving:
            if table.cursors[-1]:  # else there is no way: what has moved is nothing
                former = row_of(attachment.control, table.rows[0])
                refuse_way_back(mover.handle, shape_of(former))  # type: ignore[arg-type]
            mover.take_back()
        mover.run()
    finally:
        mover.close()
