"""Faults planted in what leaves, keeps and moves tombstones."""

from __future__ import annotations

from shmmap.operations._holding_cy import Holding
from shmmap.shard._moving_cy import ShardMove
from shmmap.shard._removing_cy import ShardRemoving
from shmmap.shard._repair_cy import Repairer
from shmmap.shard._shard_cy import Shard

from ..scenarios.cases import BURIALS, MERGER, scenario_of
from .mutant import Mutant, change, drop

_DELETE = scenario_of(BURIALS[0], MERGER)

TOMBSTONES = (
    Mutant("a delete removes the entry before it leaves the tombstone", (
        change(Shard, "bury", "    status: i64 = self.put(",
               "    self.erase(hash, found)\n    status: i64 = self.put("),
    ), _DELETE, "deaths"),
    Mutant("a delete leaves none", (
        change(Holding, "end_entry", "self.tombstones_ns == 0 or not live", "True"),
    ), "tombstones: delete against a merge", "every 1"),
    Mutant("a second delete removes the tombstone", (
        drop(Holding, "end_entry", "if not is_tombstone(found.meta):\n            "),
    ), "tombstones: delete against delete", "every 1"),
    Mutant("repair takes a tombstone for damage", (
        change(Repairer, "plausible", "value_type == VALUE_TOMBSTONE and", "False and"),
    ), _DELETE, "deaths"),
    Mutant("a sweep does not ask until when it stays", (
        change(ShardRemoving, "unbury", "self.kept_until(slot, meta) <= now_ns", "True"),
    ), scenario_of(next(case for case in BURIALS if case.name == "sweep of what stays"), MERGER),
           "every 0"),
    Mutant("a move takes a tombstone for expired", (
        change(ShardMove, "carry", "(self.kept_until(slot, meta) if is_tombstone(meta)\n"
               "                    else self.expiry.deadline(slot))",
               "self.expiry.deadline(slot)"),
    ), "tombstones: a split of what was deleted", "every 1"),
)
