"""Named locks across processes, that survive their holders: `m.lock(key)`.

A lock is an entry of the lock shard: see `locktable`. Taking, looking and freeing are single
steps, made while `close` waits; between them a waiter sleeps: see `turns`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from . import explain
from .checks import seconds, shown
from .errors import (
    LockLost,
    LockTimeout,
    MapClosed,
    MapFull,
    MapUnlinked,
    Reentered,
    ShmMapError,
    SystemCallError,
)
from .locktable import LOCK, Forked, LeftOpen, LockTable, Record, Unread, name_of
from .owed import free_later, see_to_it
from .tasks import current_task
from .turns import deadline_of, wait_for

_UNSAID: Any = type("Unsaid", (), {"__repr__": lambda self: "<the lock's timeout>"})()


class Hold:
    """One holding of a lock by this process, from its taking to its release.

    `is_over`: this process holds nothing by it any more, whatever the table says. Where memory is
    short the steps that free a lock fail, but `hold.is_over = hold.part.is_owing = True` needs
    none: see `owed`.
    """

    __slots__ = (
        "fence", "handle", "is_over", "lapses_ns", "name", "part", "pid", "raw", "sequence",
        "task", "token", "whose",
    )

    def __init__(self, name: bytes, record: Record, handle: int, part: Any) -> None:
        self.name = name
        self.token, self.sequence = record.token, record.sequence
        self.raw = record.pack()
        self.task = current_task()
        self.whose = name, self.task
        self.handle = handle
        self.part = part
        self.is_over = False
        self.pid = os.getpid()
        self.fence = 0
        self.lapses_ns = 0  # when its lease is over for sure; 0: it has none, or who knows


def try_hold(
    m: Any, name: bytes, lease: float | None, mine: list[Hold], refusal: str = "",
    hasty: bool = True,
) -> Hold | None:
    """Try once to take the lock of a name of the lock shard; None: it is held.

    The holding is noted before anybody can see it, so that nobody here takes it for abandoned;
    also in `mine`, for a caller in which a signal handler raises before it knows what it has.
    With `refusal`, refuse in these words what could only wait for itself. `hasty`: whoever asks
    will ask again, and must not wait here for a process that is stopped within the lock shard.

    Raises:
        Reentered: this very thread, or greenlet, holds it.
        MapFull: no more locks can be held.
    """
    with m._inside() as attached:
        see_to_it(attached)
        while True:
            try:
                return _try_once(m, attached, name, lease, mine, refusal, hasty)
            except Forked:  # and so the holding, if there is one, is the parent's
                mine.clear()
                attached.reenter()  # forgets what this thread held as the parent


def _try_once(
    m: Any, attached: Any, name: bytes, lease: float | None, mine: list[Hold], refusal: str,
    hasty: bool,
) -> Hold | None:
    """See `try_hold`. Raise Forked in a child that was forked meanwhile."""
    part = attached.locks
    table: LockTable = part.hasty_table() if hasty else m._lock_table()
    if refusal:
        former = part.by_task.get((name, current_task()))
        if former and not former.is_over and table.version_of(name, former.raw):
            raise Reentered(f"map {m.name!r}: {refusal}")
        if former:  # its lease is over
            part.forget(former)
    hold = Hold(name, table.new_record(), id(m), part)
    try:
        mine.append(hold)
        part.holds[hold.sequence] = hold
        hold.fence = part.act(hold, table, table.take_lock, lease)
        if lease:  # from a time after that from which the shard counts it
            hold.lapses_ns = part.clock.now_ns() + int(lease * 1e9)
        part.know(hold)
        if not part.is_ours(hold):
            raise Forked
    except Unread:
        _give_up(attached, hold)
    except LockTimeout:  # of the lock shard: its holder is stopped just now
        return None
    except (Forked, LeftOpen, MapFull):  # it was not taken, or not by this process
        raise
    except BaseException:
        hold.is_over = part.is_owing = True
        with suppress(ShmMapError, Forked):
            _give_back(attached, table, hold)
        raise
    finally:
        if not hold.fence:
            part.forget(hold)
            mine.clear()
    return hold if hold.fence else None


def _give_back(attached: Any, table: LockTable, hold: Hold) -> bool:
    """Free what is held, at the latest as soon as the lock shard lets us; tell whether it was."""
    try:
        freed: bool = attached.locks.act(hold, table, table.give_back)
        return freed
    except (LockTimeout, SystemCallError):
        _give_up(attached, hold)
        return True  # and nobody had it meanwhile


def _give_up(attached: Any, hold: Hold) -> None:
    attached.locks.forget(hold)
    free_later(attached)


def let_go(m: Any, hold: Hold) -> bool:
    """Free what is held; tell whether it was still held. A forked child frees nothing."""
    if hold.pid != os.getpid():
        return True
    with m._inside() as attached:
        try:
            return _give_back(attached, attached.locks.hasty_table(), hold)
        except Forked:
            return True
        except BaseException:
            hold.is_over = hold.part.is_owing = True
            raise
        finally:
            hold.part.forget(hold)


def leave_open(m: Any, hold: Hold) -> bool:
    """Have what is held stand open for a while, for all; tell whether that could be done."""
    if hold.pid != os.getpid():
        return False
    with m._inside() as attached:
        table = attached.locks.hasty_table()
        try:
            opened: bool = attached.locks.act(hold, table, table.leave_open)
        except (LockTimeout, SystemCallError, Forked):
            return False
        if opened:
            attached.locks.forget(hold)
        return opened


def let_all_go(attached: Any, handle: int, table: LockTable | None) -> None:
    """Free what a handle that is being closed still holds. Where the lock shard is not to be had,
    or without a table, since the handle was not closed but collected, the rest is freed in the
    background; if this was the last handle, its process is dead to the others anyway."""
    part = attached.locks
    for hold in list(part.holds.values()):
        if hold.handle == handle and hold.pid == os.getpid():
            try:
                if table is not None:
                    hasty = part.hasty_table()
                    part.act(hold, hasty, hasty.give_back)
                else:
                    _give_up(attached, hold)
            except LockTimeout:
                table = None
                _give_up(attached, hold)
            except (ShmMapError, Forked):
                pass  # unlinked, or damaged: nobody can have it; or it is the parent's
            part.forget(hold)


def describe_holder(m: Any, what: str, name: bytes, timeout: float | None, advice: str) -> str:
    """Say who holds a lock that was not to be had, since when, and what to do."""
    with m._inside() as attached:
        raw, _ = m._lock_table().get_versioned(name)
        record = Record.unpack(raw)
        start = f"map {m.name!r}, {what}: not free within {timeout or 0:g} s"
        pid, is_ours = attached.worker.pid_of(record.token) if record else (0, False)
        if record is None or not pid:
            shard = attached.locks.shards[0]
            if shard.lock.owner():  # nobody has it, and nobody can take it
                waited_ns = int((timeout or 0) * 1e9)
                return f"{start}: {explain.describe_wait(attached.locks, shard, waited_ns)}"
            return f"{start}; it was just freed: try again, or give it more time (timeout=)"
        held = max(0, attached.clock.now_ns() - record.since_ns) / 1e9
    who = explain.state_of(pid) if is_ours else "as its own pid namespace counts"
    return (
        f"{start}; held by process {pid} ({who}) for {held:.3g} s. It goes to the next one when "
        "that process leaves it or ends. If it is stopped, continue it (kill -CONT) or end it"
        f"{advice}"
    )


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

    def __call__(self, kind: Any, error: Any, trace: Any) -> None:
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
            if part.holds.get(hold.sequence) is hold and hold.pid == os.getpid():
                hold.is_over = part.is_owing = True
                if part.whole is not None:
                    free_later(part.whole)


class _Exit:
    """`Lock.__exit__`: the interpreter asks for it as a `with` begins, before it enters."""

    def __get__(self, lock: Lock | None, owner: Any = None) -> Any:
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
        self, m: Any, key: Any, timeout: float | None = None, lease: float | None = None
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
        """Take the lock, waiting for it, and give its token.

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
        if hold is None or hold.pid != os.getpid():
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
        if hold is None or hold.pid != os.getpid():
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
        return hold.fence if hold and hold.pid == os.getpid() else 0

    def _mine(self) -> Hold | None:
        """Give this thread's holding; else the only one, which another thread began."""
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
        def __exit__(self, kind: Any, error: Any, trace: Any) -> None: ...
    else:
        __exit__ = _Exit()

    def __reduce__(self) -> Any:
        raise TypeError("a Lock does not pickle: pickle the map, and make it there: m.lock(key)")

    def __repr__(self) -> str:
        return f"<Lock {shown(self.key)} of map {self._map.name!r}>"
