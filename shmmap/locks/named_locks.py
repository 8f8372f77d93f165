"""Named locks across processes, that survive their holders: `m.lock(key)`."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .._public import public
from ..checks import Key, shown
from ..errors import LockLost, LockTimeout, MapClosed, MapUnlinked
from ..system.process import this_process
from ..system.tasks import current_holder
from .holdings import Hold, describe_holder, renew, try_hold
from .leaving import Grip
from .lock_table import LOCK, Forked, name_of
from .refusals import Words, refuse
from .takings import Taking, check_lease

if TYPE_CHECKING:
    from .hosts import MapHandle

_UNSAID: Any = type("Unsaid", (), {"__repr__": lambda self: "<the lock's>"})()


@public
class Lock(Taking):
    """A named mutex of every process that has the map: `with m.lock("report"): ...`, and in a
    coroutine `async with m.lock("report"): ...`.

    It is free again when its holder leaves it, dies (at once: the next waiter takes it), closes
    the map, or, with `lease=`, so many seconds after it was taken. A lease is for holders that
    may be stopped: one that goes on after its lease has no lock any more, and is told by
    LockLost. What it writes meanwhile can be refused by who keeps the largest `token` seen.

    Threads, greenlets of gevent and eventlet, and tasks of asyncio may share a Lock; each takes it
    for itself, and one may leave what another took. There is no order among those that wait; a
    forked child does not hold what its parent does.

    A wait that could not end is refused with Reentered: for what the same thread, greenlet or task
    holds (unless `reentrant`), and, in a coroutine without `await`, for what another task of the
    same event loop holds.

    Attributes:
        key: the lock's name, any key.
        timeout: seconds that `with` waits; None: for ever, 0: one try.
        lease: seconds after which it is free whatever happens; None: never. Where that is less than
            taking it takes (microseconds), it is over when `acquire` returns.
        auto_renew: True: the lease starts anew, three times in its span, as long as the thread,
            greenlet or task that took it has not ended, and the process runs. So it ends only for a
            holder that is stopped, or has ended without leaving.
        reentrant: True: its holder may take it again, and has to leave it as often.
    """

    def __init__(
        self, m: MapHandle, key: Key, timeout: float | None = None, lease: float | None = None,
        auto_renew: bool = False, reentrant: bool = False,
    ) -> None:
        super().__init__(m, key, name_of(LOCK, key), timeout, lease, auto_renew)
        if not isinstance(reentrant, bool):
            raise TypeError(f"reentrant must be True or False, not {type(reentrant).__name__}")
        self.reentrant = reentrant
        self._holds: dict[object, Hold] = {}  # by holder

    _advice = (". Leave it first, or pass on that it is held; m.lock(key, reentrant=True) can be "
               "taken again by its holder")

    def _try_first(self, grip: Grip, refuses: bool, awaits: bool, hasty: bool) -> Hold | None:
        m = self._map

        def judge(former: Hold) -> Hold | None:
            if self.reentrant and former.holder == current_holder():
                grip.take_again(former)
                return former
            if refuses:
                refuse(m, former, awaits, self._words)
            return None

        return try_hold(m, self._name, self.lease, grip.mine, judge, hasty)

    def _try(self, grip: Grip) -> Hold | None:
        return try_hold(self._map, self._name, self.lease, grip.mine)

    def _words(self) -> Words:
        return Words(
            f"holds lock {shown(self.key)}", self._advice,
            "write `async with m.lock(...)`, or `await lock.aacquire()`",
        )

    def _too_late(self, timeout: float | None) -> LockTimeout:
        return LockTimeout(describe_holder(
            self._map, f"lock {shown(self.key)}", self._name, timeout,
            "; if holders may take too long, give the lock a lease=",
        ))

    def _note(self, hold: Hold) -> None:
        self._holds[hold.holder] = hold

    def _forget(self, hold: Hold) -> None:
        if self._holds.get(hold.holder) is hold:
            self._holds.pop(hold.holder, None)

    def _leave(self, grip: Grip) -> None:
        self.release()

    def release(self) -> None:
        """Free the lock: this thread's, or, if it has taken none through this object, that of
        the only thread that has. In a forked child, which holds nothing, do nothing.

        Does not wait for a process that is stopped within the lock shard: others get the lock
        as soon as that one goes on or ends.

        Raises:
            LockLost: it was not held any more, or never.
            MapUnlinked: nor is there a map any more.
        """
        hold = self._mine()
        if hold is None:
            raise LockLost(f"map {self._map.name!r}, lock {shown(self.key)}: nothing to release: "
                           "this thread has not taken it")
        if hold.again:
            with suppress(IndexError):  # a handler was quicker
                hold.again.pop()
            return
        self._let_go(hold)

    def extend(self, lease: float | None = _UNSAID) -> None:
        """Have a lease of so many seconds start now (default: the lock's); `token` stays.

        Raises:
            LockLost: it was not held any more.
        """
        lease = self.lease if lease is _UNSAID else check_lease(lease)
        hold = self._mine()
        not_held = f"map {self._map.name!r}, lock {shown(self.key)}: not held"
        if hold is None or hold.process != this_process():
            raise LockLost(not_held)
        with self._map._inside():
            try:
                if not renew(self._map, hold, lease, self._map._lock_table()):
                    raise self._lost("its lease had passed, or it was broken")
            except Forked:
                raise LockLost(not_held) from None
        if self.auto_renew:
            hold.renews_s = lease or 0.0

    @property
    def held(self) -> bool:
        """Whether this thread holds the lock now, or, if it has not taken it, the only thread
        that has, through this object: looked up, so a lost lease shows."""
        hold = self._mine()
        if hold is None or hold.process != this_process():
            return False
        version = 0
        with suppress(MapClosed, MapUnlinked), self._map._inside():
            version = self._map._lock_table().version_of(hold.name, hold.raw)
        return version != 0

    @property
    def token(self) -> int:
        """The fencing token: rises with every taking of any lock of the map; 0: not taken, or
        by the parent of this process."""
        hold = self._mine()
        return hold.fence if hold and hold.process == this_process() else 0

    def locked(self) -> bool:
        """Tell whether anybody on the machine holds it now."""
        with self._map._inside() as attached:
            table = attached.locks.hasty_table()
            found, version = table.get_versioned(self._name)
            return version != 0 and not table.is_abandoned(found)

    def _mine(self) -> Hold | None:
        """Return this holder's holding; else the only one, which another one began."""
        holder = current_holder()
        hold = self._holds.get(holder)
        if hold is None and self.reentrant and not self._map.closed:  # taken through another Lock?
            own = self._map.attachment.locks.own(self._name)
            hold = next((former for former in own if former.holder == holder), None)
        if hold is None and len(self._holds) == 1:
            with suppress(IndexError):
                hold = list(self._holds.values())[0]  # noqa: RUF015  # it may go meanwhile
        if hold is not None and hold.is_over:
            self._forget(hold)
            return None
        return hold

    def _lost(self, why: str) -> LockLost:
        return LockLost(
            f"map {self._map.name!r}, lock {shown(self.key)} was lost: {why}. Another process may "
            "have held it since: check what was done meanwhile, and give a longer lease= or "
            "extend() it"
        )
