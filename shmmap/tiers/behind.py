"""`write="behind"`: a write is done when the machine has it; the store gets it a moment later.

    a write     the journal, and then the machine's copy is taken out of the map
    a read      the journal, where there is no fresh copy; then as ever
    meanwhile   one process of the machine carries what waits to the store: see `draining`

What must see the store (`add`, `cas`, `incr`, a linearizable read, ...) waits until what this
machine has written to that key is there.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from ..checks import Key, Value, shown
from ..errors import EntryTooLarge, MapFull, StoreUnavailable
from ..map import ShmMap
from ..memory._clock_cy import monotonic
from .copies import Copy
from .draining import LEASE_S, Part
from .journal import Journal
from .machine_clock import MachineClock
from .parts import Parts
from .store import Store
from .store_keys import StoreKeys
from .store_lock import pauses
from .stored import Writing

SETTLE_S = LEASE_S + 1.0  # by then another process carries, if the one that did is stopped
_PENDING = b"pending"  # the version of a copy that the store does not have


class Waiting(NamedTuple):
    """What waits for the store: how many keys, and for how many seconds the oldest has."""

    keys: int
    seconds: float


class Behind:
    """What a tier needs to write behind."""

    def __init__(
        self, m: ShmMap, tag: int, store: Store, names: StoreKeys, writing: Writing,
        clock: MachineClock, tombstone_s: float | None = None,
    ) -> None:
        self.journal = journal = Journal(m, tag)
        self._store = store
        self._names = names
        self._writing = writing
        self._parts = Parts(lambda: Part(journal, store, writing, clock, tombstone_s))
        clock.offset()  # its entry, and the drainers', are made while there is room
        for place in (self.part.place, self.part.carried_place):
            m.add(place, 0, None)

    @property
    def part(self) -> Part:
        """What this process does."""
        return self._parts.part

    def start(self) -> None:
        """Have this process take part; never raises."""
        self._parts.start()

    def stop(self) -> None:
        """End this process's part."""
        self._parts.stop()

    def put(self, key: Key, kind: int | None, data: bytes, ttl_s: float | None) -> bool:
        """Write a key (kind None: remove it) into the journal; False: that has no room for it."""
        try:
            self.journal.put(self._names.name_of(key), kind, data, ttl_s)
        except (MapFull, EntryTooLarge):
            return False
        return True

    def pending(self, key: Key) -> Copy | None:
        """Return what waits for the store under a key; None: nothing."""
        record = self.journal.look(self._names.name_of(key))
        if record is None:
            return None
        if record.kind is None:
            return Copy(self.journal.now())
        return Copy(self.journal.now(), _PENDING, record.kind, record.data)

    def settle(self, keys: Iterable[Key]) -> None:
        """Wait until the store has what was written to these keys before.

        Raises:
            StoreUnavailable: it has not in some seconds; nothing was lost.
        """
        until = 0.0
        for key in keys:
            name = self._names.name_of(key)
            if self.journal.look(name) is not None:
                until = until or monotonic() + self._settle_s()
                if not self._wait(name, self.journal.now(), until):
                    raise self._not_there(f"what this machine has written to {shown(key)} before")

    def settle_all(self) -> None:
        """Wait until the store has all that was written before, as `settle` does."""
        self.flush(self._settle_s())

    def _settle_s(self) -> float:
        return SETTLE_S + self.part.lease_s - LEASE_S  # longer where the lease is

    def flush(self, timeout: float | None) -> None:
        """Wait until the store has all that was written before."""
        until = None if timeout is None else monotonic() + timeout
        seen = self.journal.now()
        waiting = list(self.journal.names())
        for at, name in enumerate(waiting):
            if not self._wait(name, seen, until):
                left = len(waiting) - at
                raise self._not_there(f"what this machine has written before, {left:,} "
                                      f"key{'s' * (left != 1)} in all,")

    def _wait(self, name: bytes, seen: int, until: float | None) -> bool:
        """Wait until the store has what was written to a name before a time, or something later.
        That a record has been overwritten does not say so: neither may be there."""
        pause = pauses()
        self.start()
        while self.journal.look(name) is not None and self.part.carried_until() <= seen:
            if until is not None and monotonic() > until:
                return False
            time.sleep(next(pause))
        return True

    def _not_there(self, what: str) -> StoreUnavailable:
        trouble = self.part.trouble
        error = StoreUnavailable(
            f"store {self._store.where}: {what} could not be carried to the store yet, and waits "
            f"in the map {self.journal.map.name!r}" + (f" ({trouble})" if trouble else "")
        )
        error.was_sent = False
        return error

    def waiting(self) -> Waiting:
        """Return how much waits."""
        records = [found for name in self.journal.names() if (found := self.journal.look(name))]
        oldest = min((record.version >> 1 for record in records), default=self.journal.now())
        return Waiting(len(records), max(0.0, (self.journal.now() - oldest) / 1e9))


def check_journal(m: ShmMap, journal: ShmMap | Value) -> None:
    """Refuse what cannot be a journal."""
    if not isinstance(journal, ShmMap):
        raise TypeError(
            'write="behind" needs journal=, a map of its own for what the store does not have yet: '
            f'shmmap.ShmMap("...", size="16MB"), not {journal!r}'
        )
    if journal.name == m.name:
        raise ValueError("journal= must be another map than m: copies would push out what the "
                         "store does not have yet")
    wanted = {"on_full": "raise", "default_ttl": None, "consistency": "linearizable"}
    for field, value in wanted.items():
        if getattr(journal, field) != value:
            raise ValueError(f"journal= must be a map with {field}={value!r}, not "
                             f"{getattr(journal, field)!r}")
    if journal.codec not in ("auto", "safe"):
        raise ValueError(f'journal= must be a map with codec="auto" or "safe", not '
                         f"{journal.codec!r}")
