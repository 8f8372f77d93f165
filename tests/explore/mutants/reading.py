"""Faults planted in how entries are read without a lock."""

from __future__ import annotations

from shmmap.operations._reads_cy import Reads
from shmmap.shard._lookup_cy import ShardLookup

from .mutant import Mutant, change, drop

MISS = "sequence & 1 == 0 and load_behind(self.mem, S_SEQUENCE) == sequence"

READING = (
    Mutant("a miss rests on no sequence", (
        change(ShardLookup, "look", MISS, "True"),
    ), "get in a rebuild", "every 1"),
    Mutant("a miss rests on a sequence that may be odd", (
        change(ShardLookup, "look", MISS, "load_behind(self.mem, S_SEQUENCE) == sequence"),
    ), "get in a rebuild", "every 2"),
    Mutant("a miss rests on the sequence before it", (
        change(ShardLookup, "look", MISS, "sequence & 1 == 0"),
    ), "get in a rebuild", "every 2"),
    Mutant("no second look at the index word", (
        drop(ShardLookup, "confirm", "and load(self.mem, word_at) & WORD_MASK == found.word"),
    ), "get and set", "every 2"),
    Mutant("no second look at the version", (
        drop(ShardLookup, "confirm", "load_behind(self.mem, at) == found.version\n        and "),
    ), "get and set", "every 1"),
    Mutant("deadline read after the second look", (
        change(Reads, "try_fetch", "    if shard.is_expired(found):\n        raw = MISSING\n"
               "    elif wants_value:", "    if wants_value:",
               "    return raw if shard.confirm(found) else None",
               "    if raw is None or not shard.confirm(found):\n        return None\n"
               "    return MISSING if shard.is_expired(found) else raw"),
    ), "sweep against get", "every 2"),
    Mutant("readers have a coarse clock", (
        change(ShardLookup, "is_expired", "self.clock.now()", "self.clock.now() >> 30 << 30"),
    ), "it expires", "every 1"),
)
