"""Counting semaphores across processes: `m.semaphore(key, 5)`.

A semaphore of `limit` permits is as many named locks, of which a holder takes any that is free. So
all that is proven of a lock holds of a permit: it is free again when its holder dies, and when its
lease is over, and no two hold it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from .._public import public
from ..checks import Key, shown
from ..errors import LockLost, LockTimeout, Reentered
from ..memory._clock_cy import monotonic_ns
from ..system.process import this_process
from ..system.tasks import current_holder, running_loop
from .holdings import Hold, describe_holder, try_hold
from .leaving import Grip
from .lock_table import PERMIT, name_of
from .takings import Taking

if TYPE_CHECKING:
    from .hosts import MapHandle

MOST = 100


@public
class Semaphore(Taking):
    """A number of permits that all processes share: `with m.semaphore("db", 5): ...`, and in a
    coroutine `async with m.semaphore("db", 5): ...`.

    At most `limit` holders are inside at once. A permit is free again when its holder leaves it,
    dies, closes the map, or when its lease is over; all else that is said of Lock holds too, but
    that a holder may take several permits, and has to leave each. All who use a key should give it
    the same limit: where they do not, each keeps to its own.

    A wait looks at every permit each time, so it costs more the larger the limit is.

    Attributes:
        key: its name, any key; locks, semaphores and entries do not meet.
        limit: how many permits there are, 1 to 100.
        timeout, lease, auto_renew: see Lock.
    """

    def __init__(
        self, m: MapHandle, key: Key, limit: int, timeout: float | None = None,
        lease: float | None = None, auto_renew: bool = False,
    ) -> None:
        if not isinstance(limit, int) or isinstance(limit, bool):
            raise TypeError(f"limit must be an int, not {type(limit).__name__}")
        if not 1 <= limit <= MOST:
            raise ValueError(f"limit={limit} must be 1 to {MOST}: each permit is a named lock")
        names = [name_of(PERMIT, key, number) for number in range(limit)]
        super().__init__(m, key, names[0], timeout, lease, auto_renew)
        self.limit = limit
        self._names = names
        self._holds: list[Hold] = []

    def _try_first(self, grip: Grip, refuses: bool, awaits: bool, hasty: bool) -> Hold | None:
        hold = self._try(grip)
        if hold is None and refuses:
            self._refuse(awaits)
        return hold

    def _try(self, grip: Grip) -> Hold | None:
        for name in self._free():
            hold = try_hold(self._map, name, self.lease, grip.mine)
            if hold is not None:
                return hold
        return None

    def _free(self) -> list[bytes]:
        """List the permits that nobody has, from any one on: those who look do not all meet at
        the first."""
        first = monotonic_ns() % self.limit
        free: list[bytes] = []
        with suppress(LockTimeout), self._map._inside() as attached:
            table = attached.locks.hasty_table()
            for name in self._names[first:] + self._names[:first]:
                found, version = table.get_versioned(name)
                if not version or table.is_abandoned(found):
                    free.append(name)
        return free

    def _refuse(self, awaits: bool) -> None:
        """Raise Reentered where all permits are held by whoever asks, or, unless the wait lets the
        event loop go on, by this thread."""
        me, loop = current_holder(), running_loop()
        with self._map._inside() as attached:
            part, table = attached.locks, attached.locks.hasty_table()
            holds: list[Hold] = []
            for name in self._names:
                own = [hold for hold in part.own(name)
                       if not hold.is_over and table.version_of(name, hold.raw)]
                if not own:
                    return  # it will be free when another one leaves it
                holds += own
        start = f"map {self._map.name!r}, semaphore {shown(self.key)}: all {self.limit} permits are"
        if all(hold.holder == me for hold in holds):
            raise Reentered(f"{start} held by this thread, greenlet or task, which would wait for "
                            "itself. Leave one first")
        if not awaits and loop is not None:
            raise Reentered(f"{start} held by code of this event loop, which could not go on while "
                            "this call holds it up: write `async with m.semaphore(...)`, or `await "
                            "semaphore.aacquire()`")

    def _too_late(self, timeout: float | None) -> LockTimeout:
        text = describe_holder(
            self._map, f"semaphore {shown(self.key)} of {self.limit}", self._name, timeout,
            "; if holders may take too long, give the permits a lease=",
        )
        return LockTimeout(f"{text}. (This is of one of its permits)")

    def _note(self, hold: Hold) -> None:
        self._holds.append(hold)

    def _forget(self, hold: Hold) -> None:
        with suppress(ValueError):
            self._holds.remove(hold)

    def _leave(self, grip: Grip) -> None:
        for hold in grip.mine:
            self._let_go(hold)

    def release(self) -> None:
        """Leave the last permit that this holder took through this object, or, if it took none,
        the last that was taken. In a forked child, which holds nothing, do nothing.

        Raises:
            LockLost: it was not held any more, or never.
        """
        holder = current_holder()
        holds = list(self._holds)
        mine = [hold for hold in holds if hold.holder == holder] or holds
        if not mine:
            raise LockLost(f"map {self._map.name!r}, semaphore {shown(self.key)}: nothing to "
                           "release: no permit was taken through this object")
        self._let_go(mine[-1])

    @property
    def held(self) -> int:
        """How many permits were taken through this object in this process, and not left."""
        return sum(hold.process == this_process() for hold in list(self._holds))

    def _lost(self, why: str) -> LockLost:
        return LockLost(
            f"map {self._map.name!r}, a permit of semaphore {shown(self.key)} was lost: {why}. "
            "Another process may have had it since: give a longer lease=, or auto_renew=True"
        )
