"""Handles of the parent that do not follow: each stays with one map until that is no more.

By them the parent knows when the main map is being replaced, what a map that is gone had counted,
and that all processes are in one map: while a witness is of the map that has the name, every
operation that begins after the witness was opened, and has ended, was in that map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lifecycle.stats import summed
from ..map import ShmMap
from ..memory.layout import constants
from ..memory.words import ShardWords
from ..operations.marking import marked
from .ledger import CACHE_HOME, MAIN_HOME, Ledger, now_ns
from .maps import open_cache

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..lifecycle.attachment import Attachment
    from .maps import Maps

_READY = constants()["STATE_READY"]
_RETIRED = constants()["STATE_RETIRED"]
COUNTED = ("takeovers", "repairs", "evicted", "expired")


class Witness:
    """One of a name. `home`: the word of a lane that says when it was there last."""

    def __init__(self, what: str, opener: Callable[[], ShmMap], home: int) -> None:
        self.counted = dict.fromkeys(COUNTED, 0)  # by maps that are no more
        self.changes = 0
        self._what = what
        self._opener = opener
        self._home = home
        self._m = opener()
        self._since = now_ns()

    def holders(self) -> list[int]:
        """List the processes that hold a shard of it, as this one knows the shards."""
        with marked(self._m):
            owners = [shard.lock.owner() for shard in self.attachment.distinct()]
        return [self.attachment.worker.pid_of(owner)[0] for owner in owners if owner]

    @property
    def attachment(self) -> Attachment:
        """The map that had the name when it was looked for last."""
        return self._m._live

    def look(self, ledger: Ledger) -> list[str]:
        """Go over to the map that has the name now; tell which lanes were elsewhere, and whether
        the map goes on without the name."""
        strays = self._strays(ledger)
        control = self.attachment.control
        if control.STATE == _READY:
            if self.attachment.has_its_name():  # and so it had all the while
                return strays
            if control.STATE == _READY:
                return [f"the {self._what} map {self.attachment.nonce:016x} is in use, though "
                        "another one has its name, or none"]
        if control.STATE == _RETIRED:
            self._change()
        return []

    def _change(self) -> None:
        former = self._m
        self._m = self._opener()
        self._since = now_ns()
        if self._m._live is not former._live:
            self.changes += 1
            with marked(former):
                for name, number in count(former._live).items():
                    self.counted[name] += number
        former.close()

    def _strays(self, ledger: Ledger) -> list[str]:
        nonce, found = self.attachment.nonce, []
        for lane in ledger.lanes:
            began, home, again = (lane.words[self._home + word] for word in (0, 1, 0))
            if began == again and began > self._since and home != nonce:
                found.append(f"lane {lane.number} used another map ({home:016x}) than the one that "
                             f"has the name of the {self._what} map ({nonce:016x}) all the while")
        return found

    def close(self) -> None:
        """Let it go."""
        self._m.close()


def count(attached: Attachment) -> dict[str, int]:
    """Return what a map has counted."""
    mappings = attached.mappings
    return {
        "takeovers": attached.worker.totals()["takeovers"],
        "repairs": summed(mappings, ShardWords.REPAIRS),
        "evicted": summed(mappings, ShardWords.EVICTED),
        "expired": summed(mappings, ShardWords.EXPIRED),
    }


class Witnesses:
    """Those of a run."""

    def __init__(self, maps: Maps, patience_s: float) -> None:
        name, cache = maps.main.name, maps.cache.name
        self.main = Witness(
            "main", lambda: ShmMap.attach(name, namespace="", lock_timeout=patience_s), MAIN_HOME
        )
        self.cache = Witness(
            "cache", lambda: open_cache(cache, patience_s, "raise"), CACHE_HOME
        )

    def look(self, ledger: Ledger) -> list[str]:
        """Have each go over to the map that has its name; tell which lanes are elsewhere."""
        return self.main.look(ledger) + self.cache.look(ledger)

    def counted(self, name: str) -> int:
        """Return what was counted by the maps that are no more."""
        return self.main.counted[name] + self.cache.counted[name]

    def close(self) -> None:
        """Let them go."""
        self.main.close()
        self.cache.close()
