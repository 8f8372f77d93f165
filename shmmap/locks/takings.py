"""What can be taken and left: a named lock, or one of the permits of a semaphore."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn, TypeVar

from ..checks import Key, seconds, shown
from ..errors import LockLost, LockTimeout, MapClosed, ShmMapError
from ..system.process import this_process
from ..system.tasks import current_holder
from . import loop_waiting, renewing
from .holdings import Hold, let_go
from .leaving import Exit, Grip, Leaving, leave, leave_async
from .waiting import deadline_of, wait_for

if TYPE_CHECKING:
    from .hosts import MapHandle

Self = TypeVar("Self", bound="Taking")
THE_OWN = -1  # the timeout of `acquire`: that of the lock


def check_lease(lease: float | None, auto_renew: object = False) -> float | None:
    """Refuse what cannot be a lease, or cannot be renewed."""
    if not isinstance(auto_renew, bool):
        raise TypeError(f"auto_renew must be True or False, not {type(auto_renew).__name__}")
    if lease is None:
        if auto_renew:
            raise ValueError(
                "auto_renew=True needs lease=: the seconds after which it is free once its holder "
                "no longer renews it, say lease=30"
            )
        return None
    lease = seconds(lease, "lease", " or None")
    if not 0 < lease < 3e9:
        raise ValueError(f"lease={lease} must be more than 0 seconds, and less than 3e9 (95 "
                         "years); None: it does not run out")
    if auto_renew and lease < renewing.SHORTEST_S:
        raise ValueError(f"lease={lease} is too short to be renewed in time: with auto_renew=True "
                         f"give {renewing.SHORTEST_S:g} seconds or more")
    return lease


class Taking:
    """Taking and leaving it: `acquire` and `release`, `with`, and both for coroutines."""

    def __init__(
        self, m: MapHandle, key: Key, name: bytes, timeout: float | None, lease: float | None,
        auto_renew: bool,
    ) -> None:
        deadline_of(timeout)
        self.key = key
        self.timeout = timeout if timeout is None else seconds(timeout, "timeout")
        self.lease = check_lease(lease, auto_renew)
        self.auto_renew = auto_renew
        self._map = m
        self._name = name  # what is waited for
        self._names = [name]  # the locks of which one is taken
        self._leavings: dict[object, Leaving] = {}  # by holder, while a `with` begins

    # -- taking -------------------------------------------------------------------------

    def acquire(self, blocking: bool = True, timeout: float | None = THE_OWN) -> bool:
        """Take it, waiting for it; tell whether it was taken. As `threading.Lock` has it.

        Args:
            blocking: False: do not wait.
            timeout: seconds to wait at most; -1 (default): as long as this object says, for ever
                if that says nothing; None: for ever.

        Raises:
            Reentered: whoever asks holds it already, and would wait for itself.
            MapFull: too many locks are held at once; the message says how many.
        """
        timeout = self._patience(blocking, timeout)
        grip = Grip()
        try:
            return self._take(grip, timeout, timeout != 0)
        except BaseException:  # perhaps a signal handler's, and the lock is taken
            self._break_off(grip)
            raise

    async def aacquire(self, blocking: bool = True, timeout: float | None = THE_OWN) -> bool:
        """Do the same in a coroutine: while it waits, its event loop goes on. A task that is
        cancelled meanwhile has taken nothing.

        The task that runs this is the holder. So give the time to wait here, or use
        `asyncio.timeout`: `asyncio.wait_for` runs it in a task of its own before Python 3.12.
        """
        timeout = self._patience(blocking, timeout)
        grip = Grip()
        try:
            return await self._take_async(grip, timeout, timeout != 0)
        except BaseException:
            self._break_off(grip)
            raise

    def _patience(self, blocking: bool, timeout: float | None) -> float | None:
        """Return for how long to wait; None: for ever."""
        if not isinstance(blocking, int) or blocking not in (0, 1):
            raise TypeError(f"acquire({blocking!r}): blocking is True or False; seconds to wait "
                            "are given as timeout=")
        if timeout == THE_OWN and not isinstance(timeout, bool):
            return self.timeout if blocking else 0
        if not blocking:
            raise ValueError("blocking=False does not wait: give no timeout= beside it")
        if timeout is None:
            return None
        return seconds(timeout, "timeout", " or None")

    def _take(self, grip: Grip, timeout: float | None, refuses: bool) -> bool:
        deadline = deadline_of(timeout)
        m = self._map
        hold = self._try_first(
            grip, refuses, False, hasty=timeout is not None and timeout < m._lock_timeout
        )
        if hold is None and timeout != 0:
            hold = wait_for(m, self._name, lambda: self._try(grip), deadline, self._names)
        return self._took(grip, hold)

    async def _take_async(self, grip: Grip, timeout: float | None, refuses: bool) -> bool:
        deadline = deadline_of(timeout)
        hold = self._try_first(grip, refuses, True, hasty=True)
        if hold is None and timeout != 0:
            part = self._map.attachment.locks

            def look() -> Hold | None:  # must not wait for a process that is stopped in there
                return self._try(grip) if part.can_be_had() else None

            hold = await loop_waiting.wait_for(part.loop_turns, self._name, look, deadline)
        return self._took(grip, hold)

    def _took(self, grip: Grip, hold: Hold | None) -> bool:
        if hold is None:
            return False
        if grip.mine:
            self._note(hold)
            if self.auto_renew:
                renewing.renew_while_held(hold, self.lease or 0.0)
        return True

    def _break_off(self, grip: Grip) -> None:
        """Free what was taken, after an error on the way."""
        for hold in grip.mine:
            hold.is_over = hold.part.is_owing = True
        self._undo(grip)

    def _undo(self, grip: Grip) -> None:
        for hold in grip.mine:
            with suppress(ShmMapError):
                let_go(self._map, hold)
            self._forget(hold)
        grip.undo_again()

    def _let_go(self, hold: Hold) -> None:
        """Free what is held. Raises LockLost."""
        try:
            if not let_go(self._map, hold):
                raise self._lost(
                    "its map was unlinked" if hold.part is not self._map.attachment.locks
                    else "its lease had passed, or it was broken" if self.lease
                    else "it was broken (shmmap locks --break)"
                )
        except MapClosed:
            if hold.process != this_process():  # a child, which has closed it
                return
            raise self._lost("the map was closed meanwhile, which freed it") from None
        except ShmMapError:
            raise
        except BaseException:  # a signal handler's, or no memory: finish all the same
            hold.is_over = hold.part.is_owing = True
            with suppress(ShmMapError):
                let_go(self._map, hold)
            raise
        finally:
            self._forget(hold)

    # -- what differs -------------------------------------------------------------------

    def _try_first(self, grip: Grip, refuses: bool, awaits: bool, hasty: bool) -> Hold | None:
        """Try once; raise Reentered where the wait would be in vain, and `refuses`."""
        raise NotImplementedError

    def _try(self, grip: Grip) -> Hold | None:
        """Try once more."""
        raise NotImplementedError

    def _note(self, hold: Hold) -> None:
        """Keep what was taken."""
        raise NotImplementedError

    def _forget(self, hold: Hold) -> None:
        """Keep it no longer. Idempotent."""
        raise NotImplementedError

    def _leave(self, grip: Grip) -> None:
        """Leave what a `with` has taken."""
        raise NotImplementedError

    def _too_late(self, timeout: float | None) -> LockTimeout:
        """Make the error of who waited for too long."""
        raise NotImplementedError

    def _lost(self, why: str) -> LockLost:
        """Make the error of who held it no more."""
        raise NotImplementedError

    # -- with ---------------------------------------------------------------------------

    def _grip(self) -> Grip:
        """Return what a `with` that begins is to hold by."""
        leaving = self._leavings.pop(current_holder(), None)
        return Grip() if leaving is None else leaving

    def __enter__(self: Self) -> Self:
        grip = self._grip()
        try:
            if not self._take(grip, self.timeout, True):
                raise self._too_late(self.timeout)
            return self
        except BaseException:
            self._break_off(grip)
            raise

    async def __aenter__(self: Self) -> Self:
        grip = self._grip()
        try:
            if not await self._take_async(grip, self.timeout, True):
                raise self._too_late(self.timeout)
            return self
        except BaseException:
            self._break_off(grip)
            raise

    if TYPE_CHECKING:
        def __exit__(self, kind: object, error: object, trace: object) -> None: ...
        async def __aexit__(self, kind: object, error: object, trace: object) -> None: ...
    else:
        __exit__ = Exit(leave)
        __aexit__ = Exit(leave_async)

    def __reduce__(self) -> NoReturn:
        kind = type(self).__name__
        raise TypeError(f"a {kind} does not pickle: pickle the map, and make it there: "
                        f"m.{kind.lower()}(key)")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {shown(self.key)} of map {self._map.name!r}>"
