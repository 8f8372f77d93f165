"""Faults planted in how a map is replaced by one of another shape, and followed."""

from __future__ import annotations

from shmmap.copies import replacing
from shmmap.lifecycle import half_replaced
from shmmap.lifecycle.making import Successor
from shmmap.locks import holdings
from shmmap.operations._handle_cy import Handle
from shmmap.operations._holding_cy import Holding

from .mutant import Mutant, change, drop

BROUGHT = "        copying.bring(list(take_held(attached).raw_entries()))\n"
BEGAN = "                began = monotonic()\n"
COUNTING = "one replaces, another counts"
LOCKING = "one replaces, two want a named lock"

REPLACING = (
    Mutant("what has changed since the snapshot is left behind", (
        drop(replacing, "_change_over", BROUGHT),
    ), COUNTING, "every 1"),
    Mutant("a map is replaced while others change it", (
        change(replacing, "_hold_all", "busy = hold_all(former, PATIENCE_NS, work)",
               "busy = work() or -1"),
    ), COUNTING, "every 2"),
    Mutant("the shards of a map that was replaced are freed", (
        change(replacing, "_hold_all", "        if busy < 0:\n", "        if busy < 0:\n"
               "            for shard in former.shards: shard.lock.release()\n"),
    ), COUNTING, "every 1"),
    Mutant("who waited for a shard does not look whether the map was replaced", (
        change(Holding, "hold_late", "if load(self.control, C_STATE) != STATE_READY:", "if False:"),
    ), COUNTING, "every 1"),
    Mutant("that a map is just being replaced is not marked", (
        change(Successor, "take_over", 'former.STATE = K["STATE_REPLACING"]', "pass"),
    ), COUNTING, "deaths 0"),
    Mutant("a map whose replacer died was not replaced", (
        change(half_replaced, "_judge", '"STATE_READY" if is_there else "STATE_RETIRED"',
               '"STATE_READY"'),
    ), COUNTING, "deaths 0"),
    Mutant("a map whose replacer died was replaced", (
        change(half_replaced, "_judge", '"STATE_READY" if is_there else "STATE_RETIRED"',
               '"STATE_RETIRED"'),
    ), COUNTING, "deaths 0"),
    Mutant("a map is removed before another one has its name", (
        change(replacing, "_change_over", BEGAN,
               "                attached.remove_files()\n" + BEGAN),
    ), "one replaces, another opens", "every 1"),
    Mutant("the files of a map that was replaced stay", (
        change(replacing, "_change_over", "successor.remove_former(attached.control)", "pass"),
    ), COUNTING, "every 0"),
    Mutant("a lock that is taken in the last moment does not count", (
        change(replacing, "_change_over", "if table.find_holder() is not None:", "if False:"),
    ), "one replaces, another has a named lock all along", "every 1"),
    Mutant("a lock is taken in a map that was replaced", (
        change(holdings, "_try_once", "if hold.fence and not attached.notice_removal():",
               "if False:"),
    ), LOCKING, "random"),
    Mutant("whose map was unlinked goes on with it", (
        change(Handle, "follow", "self._reopen(former, error)", "return 0"),
    ), "one has unlinked, another goes on, a third comes", "every 0"),
)
