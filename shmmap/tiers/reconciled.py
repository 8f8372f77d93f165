"""The part of a Tiered that makes two stores one again: see `reconciling`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..checks import LONG_S, Key, Value, seconds
from ..map import ShmMap
from .digests import Digests
from .reconciling import ReconcileReport, Reconciling, digests_of
from .stamps import latest_believed, time_of
from .store import Store
from .store_side import Policies, StoreSide
from .stored import Writing
from .writes import TierWrites

if TYPE_CHECKING:
    from ..checks import Seconds

_LISTS = ("bury", "heads", "list_heads", "put_if")  # what not every store does


class TierReconciled(TierWrites):
    """The part of Tiered that reconciles."""

    prefix: str

    def reconcile(
        self, other: TierReconciled | Store | Any,
        policy: str | Callable[[Key, Value, Value], Value] = "last", *,
        digests: Digests | None = None,
    ) -> ReconcileReport:
        """Make this tier's store and another one, which were written apart, the same again. Others
        may go on to write to both: what is written meanwhile stays. It may be broken off, and run
        again.

        Both are listed, which takes as long as a scan of all that their servers have, of whatever
        prefix; twice where one has more than 250,000 keys, and they differ. Values are read of keys
        that differ.

        Args:
            other: another Tiered, of the same codec; or a store, as for `Tiered`, of this prefix.
            policy: what becomes of a key that both have, with different stamps. "last": the later
                write stays, also where that is a removal. "max": the larger value, and of a value
                and a removal the later. A function of (key, mine, theirs): what it returns is
                written to both sides, with a new stamp; shmmap.DELETE stands for a removal,
                and None is refused unless one of them is None. It should give the same
                whatever the order, and when it is given its own result, and take less than five
                seconds.
            digests: what `digests()` has returned for the other one, on its own machine.

        Raises:
            StoreUnavailable, StoreRefused: `error.report` says what was done before.
            TypeError: "max" cannot compare two values; a function returned None.
            ValueError: a codec without stamps; two codecs.
        """
        self._check_open()
        self._check_listing(self.store)
        mine = self._side()
        decide = Policies(mine, self._writing, self.tombstone_s).called(policy)
        theirs, opened = self._other_side(other)
        try:
            return Reconciling(
                mine, theirs, decide, lambda version: time_of(version) <= latest_believed()
            ).run(digests)
        finally:
            if opened is not None:
                opened.close()

    def digests(self) -> Digests:
        """Return digests of what the store has under this prefix: where two are equal there is
        nothing to reconcile. Lists all names, and reads no values."""
        self._check_open()
        self._check_listing(self.store)
        return digests_of(self._side())

    def _side(self) -> StoreSide:
        return StoreSide(self.store, self._names, self._writing, self._tell, self._change)

    def _other_side(self, other: Any) -> tuple[StoreSide, Store | None]:
        """Return the other side, and its store if it was opened for this."""
        if isinstance(other, TierReconciled):
            other._check_open()
            if other.store is self.store and other.prefix == self.prefix:
                raise ValueError("other= is a tier of the same store and prefix: there is nothing "
                                 "to reconcile")
            if other.map.codec != self.map.codec:
                raise ValueError(
                    f"reconcile needs two tiers of one codec: map {self.map.name!r} has "
                    f"{self.map.codec!r}, map {other.map.name!r} has {other.map.codec!r}"
                )
            other._check_listing(other.store)
            return other._side(), None
        from .tiered import _redis

        is_store = hasattr(other, "feed")
        store = other if is_store else _redis(other, None)
        self._check_listing(store)
        if store is self.store:
            raise ValueError("other= is this tier's own store: there is nothing to reconcile")
        return StoreSide(store, self._names, self._writing), None if is_store else store

    def _check_listing(self, store: Store) -> None:
        check_stamped(self.map, self._writing, "reconcile and digests need")
        missing = [name for name in _LISTS if not hasattr(store, name)]
        if missing:
            raise TypeError(f"store {store.where} cannot be reconciled: it has no "
                            f"{', '.join(missing)}: see shmmap.tiers.store.Store")


def check_stamped(m: ShmMap, writing: Writing, what: str) -> None:
    """Refuse a codec without stamps."""
    if not writing.is_stamped:
        raise ValueError(
            f'{what} codec="auto" or "safe", whose values carry the time of their writing: map '
            f"{m.name!r} has {m.codec!r}, whose values do not"
        )


def read_tombstones(life: Seconds | None, m: ShmMap, writing: Writing) -> float | None:
    """Return the seconds that a tombstone is kept; None: there are none."""
    if life is None:
        return None
    check_stamped(m, writing, "tombstones= needs")
    life_s = seconds(life, "tombstones")
    if not 0 < life_s <= LONG_S:
        raise ValueError(f"tombstones={life!r} must be more than 0 seconds, and 95 years at most")
    return life_s
