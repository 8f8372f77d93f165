"""Named locks across processes, that survive their holders: `m.lock(key)`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from ..checks import Key, seconds, shown
from ..errors import LockLost, LockTimeout, MapClosed, MapUnlinked, ShmMapError
from ..system.process import this_process
from ..system.tasks import current_task
from .deferred_release import free_later
from .holdings import Hold, describe_holder, let_go, try_hold
from .lock_table import LOCK, Forked, name_of
from .waiting import deadline_of, wait_for

if TYPE_CHECKING:
    from .hosts import MapHandle

_UNSAID: Any = type("Unsaid", (), {"__repr__": lambda self: "<the lock's>"})()


def check_lease(lease: float | None) -> float | None:
    """Refuse what cannot be a lease."""
    if lease is None:
        return None
    lease = seconds(lease, "lease", " or None")
    if not 0 < lease < 3e9:
        raise ValueError(f"lease={lease} must be more than 0 seconds, and less than 3e9 (95 "
                         "years); None: it does not run out")
    return lease


class _Leaving:
    """The end of one `with` of a lock. It lives as long as that statement: where a handler raises
    before the first line of `__call__`, it goes, and what is still held by it is freed."""

    __slots__ = ("_lock", "mine")
    mine: list[Hold]

    def __init__(self, lock: Lock) -> None:
        self.mine = []
        self._lock = lock

    def __call__(self, kind: object, error: object, trace: object) -> None:
        try:
            self._lock.release()
        except ShmMapError:
            if kind is None:  # else what is under way says more
                raise
        except BaseException:  # a signal handler's, before `release` could see to that
            self._lock._undo(self.mine)
            raise

    def __del__(self) -> None:
        for hold in getattr(self, "mine", ()):  # `__init__` may have been broken off
            part = hold.part
            if part.holds.get(hold.sequence) is hold and hold.process == this_process():
                hold.is_over = part.is_owing = True
                if part.whole is not None:
                    free_later(part.whole)


class _Exit:
    """`Lock.__exit__`: the interpreter asks for it as a `with` begins, before it enters."""

    def __get__(self, lock: Lock | None, owner: object = None) -> Callable[..., None]:
        if lock is None:
            return lambda lock, *error: _Leaving(lock)(*error)
        leaving = lock._leavings[current_task()] = _Leaving(lock)
        return leaving


class Lock:
    """A named mutex of every process that has the map: `with m.lock("report"): ...`.

    It is free again when its holder leaves it, dies (at once: the next waiter takes it), closes
    the map, or, with `lease=`, so many seconds after it was taken. A lease is for holders that
    may be stopped: one that goes on after its lease has no lock any more, and is told by
    LockLost. What it writes meanwhile can be refused by who keeps the largest `token` seen.

    Threads, and greenlets of gevent and eventlet, may share a Lock; each takes it for itself, and
    one may leave what another took. Not reentrant. Waiting is polling, so
    there is no order among waiters; a forked child does not hold what its parent does.

    Attributes:
        key: the lock's name, any key.
        timeout: seconds that `with` waits; None: for ever, 0: one try.
        lease: seconds after which it is free whatever happens; None: never. Where that is less than
            taking it takes (microseconds), it is over when `acquire` returns.
    """

    def __init__(
        self, m: MapHandle, key: Key, timeout: float | None = None, lease: float | None = None
    ) -> None:
        deadline_of(timeout)
        self.key = key
        self.timeout = timeout
        self.lease = check_lease(lease)
        self._map = m
        self._name = name_of(LOCK, key)
        self._holds: dict[object, Hold] = {}  # by task
        self._leavings: dict[object, _Leaving] = {}  # by task, while a `with` begins

    def acquire(self, timeout: float | None = _UNSAID) -> int:
        """Take the lock, waiting for it, and return its token.

        Args:
            timeout: seconds to wait, instead of the lock's own; None: for ever, 0: one try.

        Raises:
            LockTimeout: it was not free in time; names the holder, and since when it holds it.
            Reentered: this thread holds it already.
            MapFull: too many locks are held at once; the message says how many.
        """
        mine: list[Hold] = []
        try:
            self._acquire(self.timeout if timeout is _UNSAID else timeout, mine)
            return mine[0].fence
        except BaseException:  # perhaps a signal handler's, and the lock is taken
            if mine:
                mine[0].is_over = mine[0].part.is_owing = True
            self._undo(mine)
            raise

    def _acquire(self, timeout: float | None, mine: list[Hold]) -> None:
        m = self._map
        deadline = deadline_of(timeout)
        if timeout is not None:
            timeout = seconds(timeout, "timeout", " or None")
        hold = try_hold(
            m, self._name, self.lease, mine,
            f"this thread holds lock {shown(self.key)} already, and would wait for itself. Leave "
            "it first, or pass on that it is held",
            hasty=timeout is not None and timeout < m._lock_timeout,
        )
        if hold is None and timeout != 0:
            hold = wait_for(
                m.attachment.locks.turns, self._name,
                lambda: try_hold(m, self._name, self.lease, mine), deadline,
            )
        if hold is None:
            raise LockTimeout(describe_holder(
                m, f"lock {shown(self.key)}", self._name, timeout,
                "; if holders may take too long, give the lock a lease=",
            ))
        self._holds[hold.task] = hold

    def _undo(self, mine: list[Hold]) -> None:
        for hold in mine:
            with suppress(ShmMapError):
                let_go(self._map, hold)
            self._forget(hold)

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
        try:
            if not let_go(self._map, hold):
                raise self._lost("its lease had passed" if self.lease else "it was taken away")
        except MapClosed:
            if hold.process != this_process():  # a child, which has closed it
                return
            raise self._lost("the map was closed meanwhile, which freed it") from None
        except ShmMapError:
            raise
        except BaseException:  # a signal handler's, or no memory: finish all the same
            hold.is_over = hold.part.is_owing = True
            self._undo([hold])
            raise
        finally:
            self._forget(hold)

    def _forget(self, hold: Hold) -> None:
        if self._holds.get(hold.task) is hold:
            self._holds.pop(hold.task, None)

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
        with self._map._inside() as attached:
            hold.lapses_ns = 0
            table = self._map._lock_table()
            try:
                if not attached.locks.act(hold, table, table.renew, lease):
                    raise self._lost("its lease had passed")
            except Forked:
                raise LockLost(not_held) from None
            if lease:
                hold.lapses_ns = self._map.attachment.clock.now_ns() + int(lease * 1e9)

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

    def _mine(self) -> Hold | None:
        """Return this thread's holding; else the only one, which another thread began."""
        hold = self._holds.get(current_task())
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

    def __enter__(self) -> Lock:
        leaving = self._leavings.pop(current_task(), None)
        mine = [] if leaving is None else leaving.mine
        try:
            self._acquire(self.timeout, mine)
            return self
        except BaseException:
            if mine:
                mine[0].is_over = mine[0].part.is_owing = True
            self._undo(mine)
            raise

    if TYPE_CHECKING:
        def __exit__(self, kind: object, error: object, trace: object) -> None: ...
    else:
        __exit__ = _Exit()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Lock does not pickle: pickle the map, and make it there: m.lock(key)")

    def __repr__(self) -> str:
        return f"<Lock {shown(self.key)} of map {self._map.name!r}>"
