"""What of a map is not its entries: locks and semaphores by key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .named_locks import Lock
from .semaphores import Semaphore

if TYPE_CHECKING:
    from ..checks import Key


class Lockable:
    """The part of ShmMap that names them."""

    def lock(
        self, key: Key, timeout: float | None = None, lease: float | None = None, *,
        auto_renew: bool = False, reentrant: bool = False,
    ) -> Lock:
        """Name a lock of every process that has this map: `with m.lock("report"): ...`, in a
        coroutine `async with m.lock("report"): ...`.

        Args:
            key: its name, any key; locks and entries do not meet.
            timeout: seconds to wait for it; None: for ever, 0: one try.
            lease: seconds after which it is free even if its holder lives; None: never.
            auto_renew: True: the lease starts anew while its holder runs.
            reentrant: True: its holder may take it again.

        Takes nothing yet; see Lock for what leaving, dying and forking do, and what is raised.

        >>> with shmmap.ShmMap("doctest", size="1MB", ephemeral=True) as m, m.lock("r") as lock:
        ...     lock.held, lock.token > 0
        (True, True)
        """
        handle: Any = self
        return Lock(handle, key, timeout, lease, auto_renew, reentrant)

    def semaphore(
        self, key: Key, limit: int, timeout: float | None = None, lease: float | None = None, *,
        auto_renew: bool = False,
    ) -> Semaphore:
        """Name a semaphore of every process that has this map: at most `limit` holders at once are
        inside `with m.semaphore("db", 5): ...`. See Semaphore; the rest is as for `lock`.

        >>> with shmmap.ShmMap("doctest", size="1MB", ephemeral=True) as m:
        ...     with m.semaphore("db", 2) as one, m.semaphore("db", 2):
        ...         one.held, m.semaphore("db", 2).acquire(timeout=0)
        (1, False)
        """
        handle: Any = self
        return Semaphore(handle, key, limit, timeout, lease, auto_renew)
