"""Holdings of named locks by this process: taken, looked at and freed, a step at a time.

Each step is made while `close` waits; between them a waiter sleeps: see `waiting`. A lock itself is
an entry of the lock shard: see `lock_table`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from ..checks import seconds
from ..errors import LockTimeout, MapFull, MapUnlinked, ShmMapError, SystemCallError
from ..operations import messages
from ..system.futex import ALL
from ..system.process import this_process
from ..system.tasks import current_holder, current_task, running_loop
from . import waking
from .deferred_release import free_later, see_to_it
from .lock_table import Forked, LeftOpen, LockTable, Record, Unread

if TYPE_CHECKING:
    from .hosts import Attached, MapHandle
    from .lock_table import LockShard


class Hold:
    """One holding of a lock by this process, from its taking to its release.

    `holder`: the task, greenlet or thread that took it; `task`: the thread or greenlet that this
    ran in, and `loop` the event loop, if it was one's. `again`: an entry for each time that its
    holder has taken it again.

    `is_over`: this process holds nothing by it any more, whatever the table says. Where memory is
    short the steps that free a lock fail, but `hold.is_over = hold.part.is_owing = True` needs
    none: see `deferred_release`.
    """

    __slots__ = (
        "again", "fence", "handle", "holder", "is_over", "lapses_ns", "loop", "name", "part",
        "process", "raw", "renews_s", "sequence", "sign", "task", "token", "whose",
    )

    def __init__(self, name: bytes, record: Record, handle: int, part: LockShard) -> None:
        self.name = name
        self.token, self.sequence = record.token, record.sequence
        self.raw = record.pack()
        self.task = current_task()
        self.holder = current_holder()
        self.loop = running_loop()
        self.whose = name, self.task
        self.handle = handle
        self.part = part
        self.is_over = False
        self.process = this_process()
        self.fence = 0
        self.lapses_ns = 0  # when its lease is over for sure; 0: it has none, or who knows
        self.again: list[object] = []
        self.renews_s = 0.0  # the lease that is renewed for it; 0: none is
        self.sign: Callable[[], object] = object  # whether its holder has ended: see `lives`


Judge = Callable[[Hold], Hold | None]


def try_hold(
    m: MapHandle, name: bytes, lease: float | None, mine: list[Hold], judge: Judge | None = None,
    hasty: bool = True,
) -> Hold | None:
    """Try once to take the lock of a name of the lock shard; None: it is held.

    The holding is noted before anybody can see it, so that nobody here takes it for abandoned;
    also in `mine`, for a caller in which a signal handler raises before it knows what it has.
    Where this very thread, or greenlet, holds it already, `judge` gets to see that holding: it
    raises Reentered, returns the holding, which is taken again, or None. `hasty`: whoever asks
    will ask again, and must not wait here for a process that is stopped within the lock shard.

    Raises:
        MapFull: no more locks can be held.
    """
    def try_it(attached: Attached) -> Hold | None:
        see_to_it(attached)
        while True:
            try:
                return _try_once(m, attached, name, lease, mine, judge, hasty)
            except Forked:  # and so the holding, if there is one, is the parent's
                mine.clear()
                attached.reenter()  # forgets what this thread held as the parent

    return m._in_one_map(try_it)


def _try_once(
    m: MapHandle, attached: Attached, name: bytes, lease: float | None, mine: list[Hold],
    judge: Judge | None, hasty: bool,
) -> Hold | None:
    """See `try_hold`. Raise Forked in a child that was forked meanwhile."""
    part = attached.locks
    table: LockTable = part.hasty_table() if hasty else m._lock_table()
    if judge is not None:
        for former in part.own(name):
            if not former.is_over and table.version_of(name, former.raw):
                return judge(former)
            if former.fence:  # its lease is over
                part.forget(former)
    hold = Hold(name, table.new_record(), m._handle_number, part)
    interrupted = part.begun.get(hold.whose)
    try:
        mine.append(hold)
        part.holds[hold.sequence] = hold
        part.begun[hold.whose] = hold
        hold.fence = part.act(hold, table, table.take_lock, lease)
        part.holds[hold.sequence] = hold  # again: a handler may have closed the handle meanwhile
        if lease:  # from a time after that from which the shard counts it
            hold.lapses_ns = part.clock.now_ns() + int(lease * 1e9)
        if hold.fence:  # else what another task of this thread holds is known by this name
            part.know(hold)
        if not part.is_ours(hold):
            raise Forked
        if hold.fence:
            attached.notice_removal()
    except MapUnlinked:  # others take the lock in the map that has the name now
        hold.fence = 0
        raise
    except Unread:
        _give_up(attached, hold)
    except LockTimeout:
        if not hold.fence:  # of the lock shard: its holder is stopped just now
            return None
        hold.is_over = part.is_owing = True  # a replacer was stopped in the middle: see above
        with suppress(ShmMapError, Forked):
            _give_back(attached, table, hold)
        raise
    except (Forked, LeftOpen, MapFull):  # it was not taken, or not by this process
        raise
    except BaseException:
        hold.is_over = part.is_owing = True
        with suppress(ShmMapError, Forked):
            _give_back(attached, table, hold)
        raise
    finally:
        part.end_taking(hold, interrupted)
        if not hold.fence:
            part.forget(hold)
            mine.clear()
    return hold if hold.fence else None


def _give_back(attached: Attached, table: LockTable, hold: Hold) -> bool:
    """Free what is held, at the latest as soon as the lock shard lets us; tell whether it was."""
    try:
        freed: bool = attached.locks.act(hold, table, table.give_back)
        return freed
    except (LockTimeout, SystemCallError):
        _give_up(attached, hold)
        return True  # and nobody had it meanwhile


def _give_up(attached: Attached, hold: Hold) -> None:
    attached.locks.forget(hold)
    free_later(attached)


def let_go(m: MapHandle, hold: Hold, wakes: int = 1) -> bool:
    """Free what is held, and wake so many of those who wait for it; tell whether it was still
    held. A forked child frees nothing."""
    if hold.process != this_process():
        return True
    with m._inside() as attached:
        if attached.locks is not hold.part:  # of a map that was unlinked
            hold.part.forget(hold)
            return False
        try:
            freed = _give_back(attached, attached.locks.hasty_table(), hold)
            waking.wake(hold.part, hold.name, wakes)
            return freed
        except Forked:
            return True
        except BaseException:
            hold.is_over = hold.part.is_owing = True
            raise
        finally:
            hold.part.forget(hold)


def renew(m: MapHandle, hold: Hold, lease: float | None, table: LockTable) -> bool:
    """Have a lease start now; tell whether it was still held. To be called inside.

    Raises:
        Forked: this is a child, which holds nothing.
    """
    part = hold.part
    if table.attachment is not part:  # of a map that was unlinked
        return False
    hold.lapses_ns = 0
    renewed: bool = part.act(hold, table, table.renew, lease)
    if renewed and lease:
        hold.lapses_ns = part.clock.now_ns() + int(lease * 1e9)
    return renewed


def leave_open(m: MapHandle, hold: Hold) -> bool:
    """Have what is held stand open for a while, for all; tell whether that could be done."""
    if hold.process != this_process():
        return False
    with m._inside() as attached:
        if attached.locks is not hold.part:
            return False
        table = attached.locks.hasty_table()
        try:
            opened: bool = attached.locks.act(hold, table, table.leave_open)
        except (LockTimeout, SystemCallError, Forked):
            return False
        if opened:
            attached.locks.forget(hold)
            waking.wake(hold.part, hold.name, ALL)
        return opened


def let_all_go(attached: Attached, handle: int, table: LockTable | None) -> None:
    """Free what a handle that is being closed still holds. Where the lock shard is not to be had,
    or without a table, since the handle was not closed but collected, the rest is freed in the
    background; if this was the last handle, its process is dead to the others anyway."""
    part = attached.locks
    for hold in list(part.holds.values()):
        if hold.handle == handle and hold.process == this_process():
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


def describe_holder(
    m: MapHandle, what: str, name: bytes, timeout: float | None, advice: str
) -> str:
    """Say who holds a lock that was not to be had, since when, and what to do."""
    timeout = seconds(timeout or 0, "timeout")
    with m._inside() as attached:
        raw, _ = attached.locks.hasty_table().get_versioned(name)
        record = Record.unpack(raw)
        start = f"map {m.name!r}, {what}: not free within {timeout or 0:g} s"
        pid, is_ours = attached.worker.pid_of(record.token) if record else (0, False)
        if record is None or not pid:
            shard = attached.locks.shards[0]
            if shard.lock.owner():  # nobody has it, and nobody can take it
                waited_ns = int((timeout or 0) * 1e9)
                return f"{start}: {messages.describe_wait(attached.locks, shard, waited_ns)}"
            return f"{start}; it was just freed: try again, or give it more time (timeout=)"
        held = max(0, attached.clock.now_ns() - record.since_ns) / 1e9
    who = messages.state_of(pid) if is_ours else "as its own pid namespace counts"
    return (
        f"{start}; held by process {pid} ({who}) for {held:.3g} s. It goes to the next one when "
        "that process leaves it or ends. If it is stopped, continue it (kill -CONT) or end it"
        f"{advice}"
    )
