"""Who moves, how fast, and how far it is: one process at a time, by a lease; two do no harm.

The lease is a word of the control segment: a token, taken by whoever finds it free, its owner dead,
or its heartbeat old (a stopped mover must not stop the move).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..lifecycle import routes
from ..lifecycle.control import shape_of
from ..memory import events
from ..memory._clock_cy import monotonic
from ..memory.layout import constants
from ..memory.table import UNITS, Table, read_table, row_of
from ..operations._moves_cy import exchange_word
from ..operations._takes_cy import Takes
from ..operations.marking import marked
from ..system.tasks import sleep
from .changing import refuse_others, take_back
from .cleaning import clean
from .group import GroupMover, NoRoom

if TYPE_CHECKING:
    from ..lifecycle.attachment import Attachment

K = constants()
STALE_NS = 5_000_000_000  # a heartbeat that is older is of one who was stopped
_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.25


class Progress(NamedTuple):
    """How far a change of the shape is.

    Attributes:
        done: the share of the map that has moved, from 0 to 1.
        entries: how many entries this process has moved.
        shards: how many shards the map is to have.
        seconds: since this process began with it.
        longest_hold: seconds for which the shards of a group were held together, at most.
        is_over: nothing moves any more.
    """

    done: float
    entries: int
    shards: int
    seconds: float
    longest_hold: float
    is_over: bool


class Stopped(Exception):
    """The map is being left: others go on."""


class Mover:
    """Moves a map to the newest generation of its table. `note` is called with the progress, now
    and then; what it raises ends the move here, and others, or a later call, go on with it."""

    def __init__(
        self, attachment: Attachment, note: Callable[[Progress], object] | None = None,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._attachment = attachment
        self._note = note
        self._is_stopping = is_stopping
        self.handle = Takes()
        self.handle._bind(attachment, int(60e9))
        attachment.movers.append(self.handle)
        self.groups = GroupMover(self.handle, attachment, self._turn)
        self._token = self.groups.new_token()  # in the lease
        self._began = monotonic()
        self._entries = 0
        self._due = self._began
        self._noted = 0.0

    def run(self, number: int | None = None) -> None:
        """Move until nothing is left to move; wait where another process is at it. `number`: of the
        generation that was asked for; None: whichever.

        Raises:
            MapFull, EntryTooLarge: the entries do not fit into that; the map has the shape it had.
            SharedMemoryFull, LockTimeout, SystemCallError: it stays half-way; call again.
        """
        try:
            self._run(number)
        except Stopped:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Let others move, and go. Idempotent."""
        if not self.handle.closed:
            self._give_up_lease()
            self.handle._seal()
            if self.handle in self._attachment.movers:
                self._attachment.movers.remove(self.handle)

    def _run(self, number: int | None) -> None:
        control = self._attachment.control
        refused: NoRoom | None = None
        is_clean, has_moved, pause_s = False, False, _PAUSE_S
        while True:
            self._attachment.refuse_lost()
            table = read_table(control)
            if has_moved and not table.is_moving:
                events.note_resize(self._attachment, self._attachment.geometry, is_done=True)
            self._tell(not table.is_moving)
            if not table.is_moving or self._is_stopping():
                if not self._is_stopping():  # a mover may have died when all had moved
                    clean(self._attachment, self.groups.segments)
                    self.handle._settled()
                    routes.let_go(self._attachment, 1)
                break
            refuse_others(self._attachment)  # else its segments would be another user's
            if not self._take_lease():
                sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            pause_s = _PAUSE_S
            if not is_clean:
                clean(self._attachment, self.groups.segments)
                is_clean = True
            try:
                if self._move_next(table):
                    has_moved = True
                else:
                    sleep(0.0005)
            except NoRoom as error:
                if number in (None, table.changes):  # else somebody else hears of it
                    refused = error
                if not self.take_back():
                    raise type(error.error)(
                        f"map {self._attachment.name!r} is on its way back to a shape that has no "
                        "room for all that came meanwhile. It stays half-way, and is used as ever: "
                        "delete entries, then m.resize() goes on"
                    ) from None
        if refused is not None:
            raise refused.error

    def _move_next(self, table: Table) -> bool:
        """Move the next group; meanwhile nobody in this process unmaps what has moved."""
        with marked(self.handle):
            return self.groups.move_next(table)

    def take_back(self) -> bool:
        """Have the map go back to the shape that it had: see `changing.take_back`."""
        control = self._attachment.control
        before = read_table(control)
        with marked(self.handle):  # as above
            is_back = take_back(self.handle, self._attachment, self.groups)
        table = read_table(control)
        if is_back and before.is_moving and table != before:
            shape = shape_of(row_of(control, table.rows[-1]))
            events.note_resize(self._attachment, shape, is_done=not table.is_moving)
        return is_back

    def _take_lease(self) -> bool:
        """Become the mover, or go on being it; False: another one is at it."""
        attachment = self._attachment
        control = attachment.control
        holder, mine = control.MOVER, self._token
        now_ns = attachment.clock.now_ns()
        if holder != mine:
            fresh = abs(now_ns - control.MOVER_BEAT_NS) < STALE_NS
            if holder and fresh and not attachment.worker.is_dead(holder):
                return False
            if not exchange_word(self.handle, K["C_MOVER"], holder, mine):
                return False
        control.MOVER_BEAT_NS = now_ns
        return True

    def _give_up_lease(self) -> None:
        mine = self._token
        if not self._attachment.is_down and self._attachment.control.MOVER == mine:
            exchange_word(self.handle, K["C_MOVER"], mine, 0)

    # -- between two steps ---------------------------------------------------------------

    def _turn(self, entries: int) -> None:
        """Count what was carried, say that this goes on, and keep to the rate."""
        if self._is_stopping():
            raise Stopped
        attachment = self._attachment
        self._entries += entries
        control = attachment.control
        control.MOVER_BEAT_NS = attachment.clock.now_ns()
        rate, table = control.MOVE_RATE, control.TABLE
        now = monotonic()
        if rate and entries:
            self._due = max(self._due, now - 1.0) + entries / rate
            while (left := self._due - monotonic()) > 0 and not (
                self._is_stopping() or self.groups.is_hurried
            ):
                sleep(min(left, _LONGEST_PAUSE_S))
                control.MOVER_BEAT_NS = attachment.clock.now_ns()
                if control.MOVE_RATE != rate or control.TABLE != table:
                    self._due = 0.0  # said by somebody else: another rate, or to take it back
        else:
            sleep(0)
        self._tell(False)

    def _tell(self, is_over: bool) -> None:
        now = monotonic()
        if self._note is not None and (is_over or now - self._noted >= 0.05):
            self._noted = now
            self._note(self.progress())

    def progress(self) -> Progress:
        """Tell how far it is, and what this one has done of it."""
        return progress_of(self._attachment)._replace(
            entries=self._entries, seconds=monotonic() - self._began,
            longest_hold=self.groups.longest_hold_s,
        )


def progress_of(attachment: Attachment) -> Progress:
    """Tell how far a map is, as its table says."""
    control = attachment.control
    table = read_table(control)
    return Progress(
        table.cursors[-1] / UNITS if table.is_moving else 1.0, 0,
        row_of(control, table.rows[-1]).SHARDS, 0.0, 0.0, not table.is_moving,
    )
