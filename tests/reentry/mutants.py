"""Faults planted in the package, each with the series of trials that have to find it.

A mutant is a function of Python source compiled anew with some text replaced, in the trial's
process only. Each text must be there exactly once, so that a mutant never becomes the package
itself unnoticed. What is compiled to C can only be mutated in the pure engine.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import shmmap.care
from shmmap.lifecycle import closing, opening
from shmmap.locks import holdings, leaving
from shmmap.locks.lock_table import LockShard
from shmmap.operations._handle_cy import Handle
from shmmap.system import record_lock

from ..support.source_text import with_changes
from .machines import Series


class Mutant(NamedTuple):
    """A fault. `sign`: a part of what a trial says of it; `points`: how many are tried."""

    name: str
    owner: Any
    function: str
    changes: tuple[tuple[str, str], ...]
    series: tuple[Series, ...]
    sign: str
    points: int = 20
    only_pure: bool = False

    def plant(self) -> None:
        """Put the fault in place of the function."""
        setattr(self.owner, self.function, with_changes(self.owner, self.function, self.changes))


_WAITS = "a write that waits for a shard"
MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "close waits for the operation that it interrupts", opening, "wait_for",
        (("handle._under_way()[0]", "sum(handle._under_way())"),),
        (Series("sweep", "close", "line"),), "took", 8,
    ),
    Mutant(
        "close leaves nothing to the last operation", closing.Closing, "_go_on",
        (("if handle._under_way() != (0, 0):", "if False:"),),
        (Series("sweep", "close", "del"), Series(_WAITS, "close", "moment")), "", 12,
    ),
    Mutant(
        "a descriptor is taken for the file that it stood for", record_lock.LockFile, "stands",
        (("descriptors.identity_of(self.descriptor) == self.identity", "True"),),
        (Series("at rest", "daemon", "inline"),), "application's", 1,
    ),
    Mutant(
        "a child takes a lock with its parent's record", LockShard, "is_ours",
        (("return hold.token == self.liveness.fork_page.word", "return True"),),
        (Series("taking a named lock", "fork, late", "line"),), "LockLost", 90,
    ),
    Mutant(
        "a handler that raises leaves a named lock taken", leaving.Leaving, "__del__",
        (('getattr(self, "mine", None)', "None"),),
        (Series("taking a named lock", "raise", "line in leaving.py"),), "has not left", 90,
    ),
    Mutant(
        "a lock is known to its thread only when its taking is over", holdings, "_try_once",
        (("part.begun[hold.whose] = hold", "pass"),),
        (Series("taking a named lock", "the same lock", "line"),), "LockTimeout", 90,
    ),
    Mutant(
        "the handles of a map are gone through while others are opened", shmmap.care, "alive",
        (("[found for one in objects.valuerefs() if (found := one()) is not None]",
          "list(objects.values())"),),
        (Series("stats", "open", "line in weakref.py"),), "changed size during iteration", 40,
    ),
    Mutant(
        "a child forgets the operation that it is in the middle of", Handle, "_after_fork",
        (("reentry.own_operations(self)", "[]"),),
        (Series("get", "fork, closed", "line"),), "released memoryview", 30, True,
    ),
)
