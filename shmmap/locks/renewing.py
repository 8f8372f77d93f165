"""Leases that are renewed while their holders live: `m.lock(key, lease=30, auto_renew=True)`.

One thread of a process (a greenlet, where those take turns) renews all of its leases. It comes
three times in the span of the shortest, so that one that was not to be had twice is still in time.
A process that is stopped renews nothing, nor does a holder that has ended: a thread, greenlet or
task that left its lock taken.
"""

from __future__ import annotations

import errno
import weakref
from typing import TYPE_CHECKING

from ..errors import LockTimeout, MapUnlinked, SystemCallError
from ..system.background import Background
from ..system.presences import alive
from ..system.process import this_process
from ..system.tasks import is_cooperative, lives, sign_of_life
from .holdings import renew
from .lock_table import Forked

if TYPE_CHECKING:
    from .holdings import Hold
    from .lock_table import LockShard

SHORTEST_S = 0.05
_TIMES = 3  # in the span of a lease


class Renewing:
    """The renewals of one process for one map. It ends when there is nothing to renew, and when
    another one takes its place, which comes more often."""

    def __init__(self, part: LockShard, interval_s: float) -> None:
        self.interval_s = interval_s
        self._part = weakref.ref(part)
        self._background = Background(self._step, interval_s, at_once=True)

    def start(self) -> bool:
        """Have it run; False: no thread could be started."""
        return self._background.start()

    def end(self) -> None:
        """Have it end, for good."""
        self._background.stop()

    def _step(self) -> bool:
        """Renew what is due; tell whether there is anything to renew."""
        part = self._part()
        if part is None or part.whole is None or part.renewing is not self:
            return False
        handle = next(iter(alive(part.whole.handles)), None)
        if handle is None:
            return False
        there_are = False
        for hold in list(part.holds.values()):
            if hold.renews_s and not hold.is_over and hold.process == this_process():
                if not lives(hold.sign):
                    hold.renews_s = 0.0
                    continue
                there_are = True
                left_s = (hold.lapses_ns - part.clock.now_ns()) / 1e9
                if hold.lapses_ns and left_s > hold.renews_s - self.interval_s / 2:
                    continue  # it was renewed just now
                try:
                    with handle._inside():
                        if is_cooperative() and not part.can_be_had():
                            raise LockTimeout  # see `deferred_release`
                        if not renew(handle, hold, hold.renews_s, part.hasty_table()):
                            hold.renews_s = 0.0  # it is lost, and its holder is told as it leaves
                except LockTimeout:
                    pass  # of the lock shard; the next one is in time
                except (Forked, MapUnlinked):
                    hold.renews_s = 0.0
        return there_are


def renew_while_held(hold: Hold, lease: float) -> None:
    """Have the lease of a holding renewed from now on, until it is left, lost, or its holder ends.

    Raises:
        SystemCallError: no thread could be started for that.
    """
    part = hold.part
    hold.sign = sign_of_life()
    hold.renews_s = lease
    renewing = part.renewing
    if renewing is None or renewing.interval_s > lease / _TIMES:
        renewing = part.renewing = Renewing(part, lease / _TIMES)
    if not renewing.start():
        raise SystemCallError(errno.EAGAIN, (
            f"map {part.name!r}: no thread could be started to renew a lease (auto_renew=True). "
            "Is a limit of threads reached (ulimit -u)? Or take the lock without auto_renew, with "
            "a lease that is long enough"
        ))
