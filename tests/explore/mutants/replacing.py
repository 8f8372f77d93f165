"""Faults planted in how a map is replaced by one of another shape, and followed."""

from __future__ import annotations

from shmmap.copies import replacing
from shmmap.lifecycle import half_replaced, reaping, reopening
from shmmap.lifecycle.attachment import Attachment
from shmmap.lifecycle.making import Successor
from shmmap.locks import holdings
from shmmap.operations import _cut_cy
from shmmap.operations._handle_cy import Handle
from shmmap.operations._holding_cy import Holding

from .mutant import Mutant, change, drop

BROUGHT = "        copying.bring(copying.take(take_held(attached)))\n"
BEGAN = "                began = monotonic()\n"
COUNTING = "one replaces, another counts"
DYING = "deaths 0 1 150"  # the publication is soon after that step
LATE = "two are late for a map that was replaced"
LOCKING = "one replaces, two want a named lock"

REPLACING = (
    Mutant("what has changed since the snapshot is left behind", (
        drop(replacing, "_change_over", BROUGHT),
    ), COUNTING, "every 1"),
    Mutant("a map is replaced while others change it", (
        change(replacing, "_hold_all", "busy = hold_all(former, shards, PATIENCE_NS, work)",
               "busy = work() or -1"),
    ), COUNTING, "every 2"),
    Mutant("the shards of a map that was replaced are freed", (
        change(replacing, "_hold_all", "        if busy < 0:\n", "        if busy < 0:\n"
               "            for shard in former.shards: shard.lock.release()\n"),
    ), COUNTING, "every 1"),
    Mutant("who waited for a shard does not look whether the map was replaced", (
        change(Holding, "hold_late", "if load(self.control, C_STATE) != STATE_READY:", "if False:"),
    ), COUNTING, "every 1"),
    Mutant("who is told that a map was replaced frees the shard that it took over", (
        change(Holding, "free", "if load(self.control, C_STATE) == STATE_READY:", "if True:"),
    ), LATE, "every 0", 10),
    Mutant("one shard of several is held", (
        change(_cut_cy, "hold_each", "in enumerate(shards):", "in enumerate(shards[:1]):"),
    ), "a map of two shards is replaced", "every 1"),
    Mutant("a map that was replaced is marked as it was before", (
        change(Successor, "take_over", '"STATE_READY" if found == former.identity else '
               '"STATE_RETIRED"', '"STATE_READY"'),
    ), COUNTING, "every 0"),
    Mutant("that a map is just being replaced is not marked", (
        change(Successor, "take_over", 'former.STATE = K["STATE_REPLACING"]', "pass"),
    ), COUNTING, DYING),
    Mutant("a map whose replacer died was not replaced", (
        change(half_replaced, "_judge", '"STATE_READY" if is_there else "STATE_RETIRED"',
               '"STATE_READY"'),
    ), COUNTING, DYING),
    Mutant("a map whose replacer died was replaced", (
        change(half_replaced, "_judge", '"STATE_READY" if is_there else "STATE_RETIRED"',
               '"STATE_RETIRED"'),
    ), COUNTING, DYING),
    Mutant("a map is removed before another one has its name", (
        change(replacing, "_change_over", BEGAN,
               "                attached.remove_files()\n" + BEGAN),
    ), "one replaces, another opens", "every 1"),
    Mutant("who leaves a map whose replacer died takes it for replaced", (
        change(Attachment, "leave", "half_replaced.is_ready(self)",
               'self.control.STATE == K["STATE_READY"]'),
    ), "an ephemeral map is replaced as another leaves it", DYING),
    Mutant("nobody looks for a map that lingers whose replacer died", (
        change(reaping, "_glance", "words.STATE in LIVE", "words.STATE == LIVE[0]"),
    ), "a map that lingers is replaced, left, and looked for", DYING),
    Mutant("the files of a map that was replaced stay", (
        change(replacing, "_change_over", "successor.remove_former(attached.control)", "pass"),
    ), COUNTING, "every 0"),
    Mutant("a lock that is taken in the last moment does not count", (
        change(replacing, "_change_over", "if table.find_holder() is not None:", "if False:"),
    ), "one replaces, another has a named lock all along", "every 1"),
    Mutant("a lock is taken in a map that was replaced", (
        change(holdings, "_try_once", "attached.notice_removal()", "pass"),
    ), LOCKING, "random"),
    Mutant("who goes over makes a map of its own", (
        change(reopening, "_reopen", "request.again(former.parameters)",
               "request.again(former.parameters)._replace(fresh=True)"),
    ), "one goes over and dies, another replaces again", "every 1"),
    Mutant("whose map was unlinked goes on with it", (
        change(Handle, "follow", "self._reopen(former, error)", "return 0"),
    ), "one has unlinked, another goes on, a third comes", "every 0"),
)
