"""Faults planted in the repair of what a death left."""

from __future__ import annotations

from shmmap.shard._repair_cy import Repairer

from .mutant import A, Mutant, change, death_in, drop

REPAIRING = (
    Mutant("repair keeps what the index names", (
        drop(Repairer, "run", "    self.shard.index.clear()\n"),
        change(Repairer, "admit", "    if position >= 0:\n",
               "    if position < 0 or self.shard.index.word(position) & SLOT_MASK != slot:\n"
               "        self.shard.slots.set_version(slot, 0)\n"
               "        self.uncount(slot)\n    if True:\n        return\n    if position >= 0:\n"),
    ), death_in(A), "deaths"),
    Mutant("repair does not end the older twin", (
        drop(Repairer, "admit", "        self.shard.slots.set_version(other, 0)\n"
             "        fence()\n"),
    ), death_in(A, then=(("delete", "b"),)), "deaths"),
    Mutant("repair does not make the sequence odd", (
        drop(Repairer, "run", "    store(self.mem, S_SEQUENCE, sequence)\n"),
    ), "get in a rebuild", "every 1"),
    Mutant("repair does not tell those who list", (
        drop(Repairer, "run", "    store(self.mem, S_REBUILDS, rebuilds)\n"),
    ), "list in a rebuild", "every 2"),
    Mutant("repair lets a broken-off counter keep its version", (
        change(Repairer, "examine", "self.shard.stamp(self.shard.clock.now())", "version & ~1"),
    ), death_in(("incr", "n"), before=(("incr", "n"), ("get_versioned", "n")),
                then=(("get_versioned", "n"),)), "deaths"),
)
