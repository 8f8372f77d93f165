"""Faults planted in how a snapshot is copied and cut."""

from __future__ import annotations

from shmmap.copies import snapshots
from shmmap.shard._shadow_cy import ShardCopy
from shmmap.shard._shard_cy import Shard

from ..scenarios.scenario import LEASE, PASS, SHORT, SNAP, Scenario
from .mutant import A, B, Mutant, change, drop

PUBLISH = "    self.slots.set_version(head, found.version)\n"
END_OLD = "        self.slots.set_version(found.slot, 0)\n"
RAW = "store(self.mem, self.slots.at({}), "  # a version, unmarked

SNAPSHOTS = (
    Mutant("put does not mark what it wrote", (
        change(Shard, "put", PUBLISH, f"    {RAW.format('head')}found.version)\n"),
    ), "snapshot of new keys", "every 2"),
    Mutant("a flip does not mark what it ended", (
        change(Shard, "flip", END_OLD, f"        {RAW.format('found.slot')}0)\n"),
    ), "snapshot and deletes", "every 2"),
    Mutant("a change in place marks nothing", (
        change(Shard, "change_word", "self.slots.set_version(found.slot, found.version | 1)",
               f"{RAW.format('found.slot')}found.version | 1)",
               "self.slots.set_version(found.slot, version)",
               f"{RAW.format('found.slot')}version)"),
    ), "snapshot of counters", "every 2"),
    Mutant("marks are cleared before all is copied", (
        change(ShardCopy, "copy_all", "    return used",
               "    zero(self.source.mem, self.source.slots.changed_base, 8)\n    return used"),
    ), "snapshot between two sets", "every 2"),
    Mutant("changes are marked too late", (
        drop(ShardCopy, "start", "    store(self.source.mem, S_TRACKING, me)\n"),
        change(ShardCopy, "copy_all", "    return used",
               "    store(self.source.mem, S_TRACKING, load(self.source.mem, S_OWNER) or 1)\n"
               "    return used"),
        change(ShardCopy, "is_tracked", "return load(self.source.mem, S_TRACKING) == me",
               "return True"),
    ), "snapshot between two sets", "every 2"),
    Mutant("tracking ends before the cut", (
        change(snapshots, "cut", "began = clock_ns(1)",
               "began = clock_ns(1)\n"
               "        for copy in all_copies:\n            copy.forget_tracking(handle.token())",
               "not copy.is_tracked(handle.token())", "False"),
    ), "snapshot between two sets", "every 2"),
    Mutant("each shard is held alone", (
        change(snapshots, "cut", """            failed = hold_each(handle, shards, until)
""", """            for at, shard in enumerate(shards):
                failed = at if hold_each(handle, [shard], until) == 0 else -1
                if failed >= 0:
                    break
                all_copies[at].copy_changed(1 << 62)
                all_copies[at].stop()
                handle.drop(shard)
""", "not copy.is_tracked(handle.token())", "False", """                for copy in all_copies:
                    copy.copy_changed(1 << 62)
                    copy.stop()
""", ""),
    ), "snapshot between two sets", "every 2"),
    Mutant("only the head of a chain is copied again", (
        change(ShardCopy, "copy_entry", "while left and budget:", "while False:"),
    ), "snapshot of chains", "every 1"),
    Mutant("a deadline is not copied again", (
        change(ShardCopy, "copy_slot", "if self.source.expiry.ready():", "if False:"),
    ), Scenario("snapshot of a deadline that passes", (
        (SNAP,), (("set", "a", SHORT, LEASE), PASS, B, ("touch", "b")),
    ), (A, B), shards=2), "every 2"),
)
