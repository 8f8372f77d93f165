"""A lock of all machines: one process a machine asks the store for it, and renews its lease.

    1  the named lock of this machine's map, which the kernel's death notices free
    2  the store's lock, for `lease` seconds, by a name of the holder's own; asked for again and
       again while another machine has it
    3  a thread has the lease start anew three times in its span, as long as this process runs
    4  where this machine writes behind, the store has what was written before it is let go

So a holder that dies leaves it to its own machine and to others after `lease` seconds; one that is
stopped, or whose machine is cut off, has lost it then. The store counts the takings: whoever writes
elsewhere under the lock gives `token` along, and what keeps the largest token that it has seen
refuses a holder that goes on without the lock.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha1
from typing import TYPE_CHECKING, Any

from ..checks import Key, seconds, shown
from ..errors import LockLost, LockTimeout, Reentered, ShmMapError, StoreUnavailable
from ..map import ShmMap
from ..memory._clock_cy import monotonic
from ..system.background import Background
from ..system.blocks import exit_of
from ..system.process import this_process
from ..system.tasks import current_holder
from .store import Store
from .store_keys import LOCKS, RESERVED, StoreKeys

if TYPE_CHECKING:
    from ..checks import Seconds

LEASE_S = 10.0


def pauses() -> Iterator[float]:
    """Yield the seconds between two questions to the store: longer and longer."""
    pause_s = 0.002
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, 0.05)


def lock_name(names: StoreKeys, kind: str, key: Key) -> bytes:
    """Return what the store's names of a lock begin with: all of them lie in one slot."""
    digest = sha1(names.name_of(key), usedforsecurity=False).hexdigest()
    prefix = names.prefix
    if prefix[prefix.find(b"{"):].startswith(b"{}"):  # then a cluster heeds no other braces
        prefix = b""
    return prefix + LOCKS + f"{kind}{{{digest}}}".encode()


class _Holding:
    """What one `with` holds: see `blocks`. Where its end is not called, it goes with it.
    `has_taken`: the `with` has taken the lock, and not left it."""

    has_taken = False

    def __init__(self, lock: TierLock) -> None:
        self.lock = lock

    def __del__(self) -> None:
        if self.has_taken:
            self.lock._drop()


def _leave(held: Callable[[], Any], kind: object, error: object, trace: object) -> None:
    """End a `with`. No variable has what it holds: a traceback would keep that."""
    try:
        held().lock.release()
        held().has_taken = False
    except (LockLost, StoreUnavailable):
        held().has_taken = False
        if kind is None:  # else what the block raised says more
            raise


class _Exit:
    """`__exit__`: the interpreter asks for it as a `with` begins, before it enters."""

    def __get__(self, lock: TierLock | None, owner: object = None) -> Callable[..., Any]:
        if lock is None:
            return lambda lock, *raised: exit_of(_leave, _Holding(lock))(*raised)
        holding = lock._entering[current_holder()] = _Holding(lock)
        return exit_of(_leave, holding)


class TierLock:
    """A lock that all machines have in common: `with tier.lock("report") as lock: ...`.

    Not reentrant; of one thread at a time, which leaves it again.

    Attributes:
        key: its name.
        timeout: seconds that `with` waits; None: for ever.
        lease: seconds that it stays taken where nobody renews it.
        token: the fencing token, greater than any before of this lock; 0: not taken.
    """

    def __init__(
        self, m: ShmMap, store: Store, names: StoreKeys, kind: str, key: Key,
        timeout: Seconds | None, lease: Seconds, settle: Callable[[], None] | None = None,
    ) -> None:
        self.key = key
        self._settle = settle  # waits until the store has what this machine has written
        self.timeout = None if timeout is None else seconds(timeout, "timeout")
        self.lease = seconds(lease, "lease")
        if not 0.1 <= self.lease <= 86_400:
            raise ValueError(f"lease={lease!r} must be from 0.1 seconds to a day")
        self.token = 0
        self._store = store
        self._name = lock_name(names, kind, key)
        self._local = m.lock((RESERVED, kind, key))
        self._has_local = False
        self._process = 0  # that has taken it
        self._holder = b""
        self._good_until = 0.0
        self._renewal: Background | None = None
        self._entering: dict[object, _Holding] = {}  # by holder, while a `with` begins

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {shown(self.key)}, token {self.token}>"

    def acquire(self, timeout: float | None = None) -> bool:
        """Take it; False: not within `timeout` seconds (None: for ever, 0: one try).

        Raises:
            StoreUnavailable, StoreRefused: the store cannot say whose it is.
            Reentered: this thread has it.
        """
        until = None if timeout is None else monotonic() + timeout
        try:
            if not self.take_here(timeout):
                return False
        except Reentered:
            raise Reentered(
                f"lock {shown(self.key)} of store {self._store.where}: this thread has it already, "
                "and a lock of all machines is not taken twice: leave it first"
            ) from None
        try:
            pause = pauses()
            while not self.take():
                left = float("inf") if until is None else until - monotonic()
                if left <= 0:
                    self._leave_here()
                    return False
                time.sleep(min(next(pause), left))
        except StoreUnavailable:  # not asked again: what it may have taken goes with the lease
            self._drop()
            raise
        except BaseException:
            self._give_up()
            raise
        return True

    def take_here(self, timeout: float | None) -> bool:
        """Take this machine's lock only: `take` asks the store."""
        if not self._local.acquire(timeout=timeout):
            return False
        self._has_local = True
        return True

    def take(self) -> bool:
        """Ask the store once; tell whether it is ours now."""
        self._holder = self._holder or os.urandom(16)
        asked = monotonic()
        token = self._store.take_lock(self._name, self._holder, self.lease)
        if not token:
            return False
        self.token, self._process = token, this_process()
        self._good_until = asked + self.lease
        me = weakref.ref(self)
        self._renewal = Background(
            lambda: (one := me()) is not None and one._renew(), self.lease / 3)
        self._renewal.start()
        return True

    def _renew(self) -> bool:
        if not self.token:
            return False
        asked = monotonic()
        with suppress(StoreUnavailable):
            if not self._store.renew_lock(self._name, self._holder, self.lease):
                self._good_until = 0.0
                return False
            self._good_until = asked + self.lease
        return monotonic() < self._good_until

    @property
    def held(self) -> bool:
        """Whether it is held for certain: its lease has not passed since the store answered."""
        return self._process == this_process() and self.token > 0 and (
            monotonic() < self._good_until
        )

    def release(self) -> None:
        """Let it go, when the store has what this machine has written.

        Raises:
            LockLost: it was not held any more: its lease had passed.
            StoreUnavailable: the store does not have all that was written yet. The lock is left to
                its lease, so that it has a little longer.
        """
        if self._process != this_process():
            self._drop()  # it is the parent's
        if not self.token:
            raise LockLost(f"lock {shown(self.key)} of store {self._store.where}: not taken")
        try:
            if self._settle is not None and self.held:
                self._settle()
            is_mine = self._leave_store()
        except BaseException as error:
            lease_s = max(0.0, self._good_until - monotonic())
            self._drop()
            if hasattr(error, "add_note"):  # Python 3.11
                error.add_note(f"The lock {shown(self.key)} is left to its lease: others have it "
                               f"in {lease_s:.1f} s.")
            raise
        self._leave_here()
        if not is_mine:
            raise LockLost(
                f"lock {shown(self.key)} of store {self._store.where} was lost: its lease had "
                "passed. Another machine may have held it since: check what was done meanwhile, "
                "and give a longer lease="
            )

    def _leave_store(self) -> bool:
        """Free the store's part; tell whether it was still ours, as far as is known."""
        renewal, self._renewal = self._renewal, None
        was_held, holder = self.held, self._holder
        self.token, self._holder, self._good_until = 0, b"", 0.0
        if renewal is not None:
            renewal.stop()
        try:
            return self._store.free_lock(self._name, holder)
        except StoreUnavailable:  # it goes when its lease has passed
            return was_held

    def _give_up(self) -> None:
        """Leave what may have been taken, as an error comes out."""
        with suppress(Exception):
            if self._holder:
                self._leave_store()
        self._leave_here()

    def _leave_here(self) -> None:
        """Free this machine's part, if it was taken."""
        if self._has_local:
            self._has_local = False
            with suppress(ShmMapError):
                self._local.release()

    def _drop(self) -> None:
        """Have it be renewed no more; the store's part goes when its lease has passed. This waits
        for nobody: a finalizer does it."""
        self.token, self._holder, self._good_until, self._renewal = 0, b"", 0.0, None
        self._leave_here()

    def __enter__(self) -> TierLock:
        holding = self._entering.pop(current_holder(), None)
        if not self.acquire(self.timeout):
            raise LockTimeout(f"lock {shown(self.key)} of store {self._store.where} was not free "
                              f"within {self.timeout:g} s; its holder may be on another machine")
        if holding is not None:
            holding.has_taken = True
        return self

    if TYPE_CHECKING:
        def __exit__(self, kind: object, error: object, trace: object) -> None: ...
    else:
        __exit__ = _Exit()
