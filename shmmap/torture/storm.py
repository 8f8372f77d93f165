"""The parent's part of a resize storm: it kills and stops whoever moves the map to another shape,
mostly at one of the moments that count."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ..lifecycle import routes
from ..memory.layout import constants
from ..memory.table import read_table
from .ledger import PID, now_ns
from .moments import FREE_PLACES, HOLDING_PLACES

if TYPE_CHECKING:
    from .chaos import Chaos
    from .family import Family

_READY = constants()["STATE_READY"]
_PATIENCE_S = 1.0  # to wait for a mover, or for one at a moment
_LONG_S = (0.3, 7.0)  # a stop, in which others take over from the one that is stopped, or not
_LONG_SHARE = 0.25  # of those that hold nothing


class Storm:
    """See the module."""

    def __init__(self, chaos: Chaos) -> None:
        self._chaos = chaos
        self._rng = chaos.rng
        self._asleep: dict[int, tuple[Family, float]] = {}  # by pid: until when
        self._looked_ns = now_ns()
        self._was_moving = False

    # -- looking after them ---------------------------------------------------------------

    def look_after(self) -> None:
        """Wake who has slept for long enough, and note whether the map is on its way."""
        for pid, (_, until) in self._asleep.copy().items():
            if time.monotonic() > until:
                self._wake(pid)
        now, moving = now_ns(), self._is_moving()
        if self._was_moving and not moving:  # as each process does that may have a thread for it
            routes.let_go(self._chaos.main.attachment)
        if moving or self._was_moving:
            self._chaos.waits.moved(self._looked_ns, now)
        self._looked_ns, self._was_moving = now, moving

    def sleeps(self, family: Family) -> bool:
        """Tell whether one is stopped now, and so makes no progress."""
        return any(one is family for one, _ in self._asleep.values())

    def end(self) -> None:
        """Wake all."""
        for pid in list(self._asleep):
            self._wake(pid)

    def _wake(self, pid: int) -> None:
        family, _ = self._asleep.pop(pid)
        if family.pid == pid:  # nobody has killed it meanwhile
            os.kill(pid, signal.SIGCONT)
            family.begin_watch(time.monotonic())

    # -- striking -------------------------------------------------------------------------

    def strike(self) -> None:
        """Kill or stop a mover."""
        if not self._chaos.plan.resizes:
            return
        what = self._rng.random()
        place = ""
        if what < 0.15:
            pid = self._wait_for_mover()
            time.sleep(self._rng.random() ** 3 * 0.3)
        elif what < 0.4:
            pid = self._wait_until_it_holds()
        else:
            place = self._rng.choice(FREE_PLACES + 2 * HOLDING_PLACES)
            pid = self._wait_until_it_is_at(place)
        try:
            family = self._family_of(pid)
            if family is not None:
                self._hit(family, pid, place)
        finally:
            self._chaos.setting.moments.aim_at("")

    def _hit(self, family: Family, pid: int, place: str) -> None:
        chaos = self._chaos
        holds = self._holds(pid)
        if self._rng.random() < 0.65:
            chaos.counts["movers"] += 1
            chaos.counts["movers_in_the_cut"] += holds
            chaos.counts["movers_at_a_moment"] += bool(place)
            self._kill(family)
            return
        chaos.counts["movers_stopped"] += 1
        long = place in FREE_PLACES and family in chaos.resizers and (
            not self._asleep and self._rng.random() < _LONG_SHARE
        )
        from_ns = now_ns()
        os.kill(pid, signal.SIGSTOP)
        if long:
            until = time.monotonic() + self._rng.uniform(*_LONG_S)
            self._asleep[pid] = family, until
            return
        time.sleep(10 ** self._rng.uniform(-3.5, -1.5))
        if self._rng.random() < 0.4:
            self._kill(family)
        else:
            with suppress(ProcessLookupError):  # it was a worker's child, which that has killed
                os.kill(pid, signal.SIGCONT)
        chaos.waits.mark(from_ns, now_ns())

    def _kill(self, family: Family) -> None:
        self._chaos.setting.moments.aim_at("")
        self._chaos.kill([family])
        self._chaos.waits.mover_died(family.killed_ns)

    # -- finding them -----------------------------------------------------------------------

    def _is_moving(self) -> bool:
        control = self._chaos.witnesses.main.attachment.control
        return control.STATE == _READY and read_table(control).is_moving

    def _mover(self) -> int:
        """Return the pid of who has the lease; 0: nobody."""
        attached = self._chaos.witnesses.main.attachment
        holder = attached.control.MOVER
        return attached.worker.pid_of(holder)[0] if holder and self._is_moving() else 0

    def _wait_for_mover(self) -> int:
        deadline = time.monotonic() + _PATIENCE_S
        while not (pid := self._mover()) and time.monotonic() < deadline:
            self._chaos.look_at_homes()
            time.sleep(0.001)
        return pid

    def _wait_until_it_holds(self) -> int:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            pid = self._wait_for_mover()
            len(self._chaos.main)  # which has us look at the shards that are
            for _ in range(200):
                if pid and self._holds(pid):
                    self._chaos.linger(1.0, 4.5)
                    return pid
        return 0

    def _holds(self, pid: int) -> bool:
        """Tell whether a process holds a shard of the map that has the name."""
        return pid in self._chaos.witnesses.main.holders()

    def _wait_until_it_is_at(self, place: str) -> int:
        moments = self._chaos.setting.moments
        moments.aim_at(place)
        deadline = time.monotonic() + _PATIENCE_S
        while not (pid := moments.who_is_there()) and time.monotonic() < deadline:
            time.sleep(0.0005)
        if pid:
            self._chaos.linger(2.0, 6.0)
        return pid

    def _family_of(self, pid: int) -> Family | None:
        """Find the worker that is a process, or whose child it is; None: none, or it is stopped."""
        if not pid or pid in self._asleep:
            return None
        for family in self._chaos.everyone:
            if family.pid and (family.pid == pid or any(
                lane.words[PID] == pid for lane in family.lanes
            )):
                return family
        return None
