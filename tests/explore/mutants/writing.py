"""Faults planted in how entries are written, overwritten, removed and merged."""

from __future__ import annotations

from shmmap.operations import _pop_any_cy
from shmmap.operations._takes_cy import Takes
from shmmap.operations._writes_cy import Writes
from shmmap.shard._checking_cy import Checker
from shmmap.shard._repair_cy import Repairer
from shmmap.shard._shard_cy import Shard
from shmmap.shard._slots_cy import Slots

from ..scenarios.scenario import LONG, SHORT, Scenario
from .mutant import A, B, Mutant, change, death_in, drop

FILL = "self.fill(head, meta, key, value, deadline_ns)\n"
FLIP = "    self.flip(hash, head, found, room)\n"
PUBLISH = "    self.slots.set_version(head, found.version)\n"
END_OLD = "        self.slots.set_version(found.slot, 0)\n"
EVEN = "    store(self.mem, S_SEQUENCE, sequence + 2)\n"
RELEASE = """    if had:
        self.release_slots(found.slot, found.meta)
    else:
"""
CLEAN = "    store(self.mem, S_DIRTY, 0)\n    found.slot"
STATE = "self.mem.octets[{0}.base + {0}.count * {0}.size + {1}]"  # a spare byte a slot

PICKED = "            shard = self.shard_for(packed)\n"

WRITING = (
    Mutant("published before it is filled", (
        change(Shard, "put", "    " + FILL, "", FLIP, FLIP + "    " + FILL),
    ), "get and set", "every 1"),
    Mutant("version stored before it is filled", (
        change(Shard, "put", "    " + FILL, "", PUBLISH, PUBLISH + "    " + FILL),
    ), death_in(("set", "a", LONG)), "deaths"),
    Mutant("version stored before it is filled, no death", (
        change(Shard, "put", "    " + FILL, "", PUBLISH, PUBLISH + "    " + FILL),
    ), "a slot is used again", "every 3", 6000),
    Mutant("old version ends after the flip", (
        change(Shard, "flip", END_OLD, "    pass\n", EVEN,
               "    if room < 0:\n" + END_OLD + EVEN),
    ), "near cache and set", "every 2"),
    Mutant("deleted version ends after the flip", (
        change(Shard, "flip", END_OLD, "    pass\n", EVEN,
               EVEN + "    if room < 0:\n" + END_OLD),
    ), death_in(("delete", "a")), "deaths"),
    Mutant("a state byte says what is live", (
        change(Shard, "put", PUBLISH, PUBLISH + f"    {STATE.format('self.slots', 'head')} = 1\n"),
        drop(Shard, "flip", END_OLD),
        change(Shard, "release_slots", "    fence()\n",
               f"    {STATE.format('self.slots', 'slot')} = 0\n"
               "    store(self.mem, self.slots.at(slot), 0)\n"),
        change(Repairer, "run", "if version == 0:",
               f"if {STATE.format('self.shard.slots', 'slot')} == 0:"),
    ), death_in(("delete", "a")), "deaths"),
    Mutant("user bytes where a continuation's version belongs", (
        change(Slots, "needed", "self.size - 9) // (self.size - 8)", "self.size - 1) // self.size"),
        *(change(Slots, name, "room = self.size - 8\n        start = 8",
                 "room = self.size\n        start = 0")
          for name in ("write", "read", "value_offset")),
        drop(Slots, "take", "self.version(slot) != 0 or "),
        drop(Repairer, "claim_chain",
             "\n            or (done and self.shard.slots.version(slot) != 0)"),
        change(Checker, "problems", "    shard = self.shard\n", "    return []\n"),
    ), death_in(("set", "b", SHORT), before=(("set", "a", LONG), B)), "deaths"),
    Mutant("freed before the flip", (
        change(Shard, "put", FLIP + RELEASE,
               RELEASE.replace("    else:\n", "") + FLIP + "    if not had:\n"),
    ), "a lease is overwritten as it expires", "every 2"),
    Mutant("freed before its place is taken", (
        change(Shard, "put", "    head = self.slots.take(need)\n",
               RELEASE.replace("    else:\n", END_OLD) + "    head = self.slots.take(need)\n",
               FLIP + RELEASE, FLIP + "    if not had:\n"),
        drop(Shard, "flip", END_OLD),
    ), death_in(A), "deaths"),
    Mutant("an entry that expired is freed before the flip", (
        change(Shard, "remove", "    self.flip(hash, 0, found, -1)\n", "",
               "    self.release_slots(found.slot, found.meta)\n",
               "    self.release_slots(found.slot, found.meta)\n"
               "    self.flip(hash, 0, found, -1)\n"),
    ), "sweep against get", "every 2"),
    Mutant("pop takes another version than it gives", (
        change(Takes, "take_version", "found.version != version", "False"),
    ), "pop against set, long", "every 2"),
    Mutant("popitem takes what was changed since", (
        change(_pop_any_cy, "take_offered", "shard.confirm(found) and not shard.is_expired(found)",
               "True"),
    ), "popitem against set", "every 2"),
    Mutant("dirty is not set", (
        drop(Shard, "put", "    store(self.mem, S_DIRTY, 1)\n"),
    ), death_in(A), "deaths"),
    Mutant("dirty is cleared before the counts", (
        change(Shard, "put", CLEAN, "    found.slot", FLIP,
               FLIP + "    store(self.mem, S_DIRTY, 0)\n"),
    ), death_in(A), "deaths"),
    Mutant("a version is given out twice", (
        drop(Shard, "stamp", "    store(self.mem, S_STAMP, version)\n"),
    ), "versions", "every 1"),
    Mutant("a counter changes without an odd version", (
        drop(Shard, "change_word", "    self.slots.set_version(found.slot, found.version | 1)\n"),
    ), "versions of a counter", "every 2"),
    Mutant("a deadline is not forgotten", (
        change(Shard, "release_slots", "self.expiry.forget(slot)", "pass"),
        change(Shard, "reclaim", "self.expiry.forget(slot)", "pass"),
    ), "sweep against set", "every 1"),
    Mutant("eviction takes what is being overwritten", (
        drop(Shard, "evict_one", " and slot != keep"),
    ), "evict for an own longer value", "every 1"),
    Mutant("a merge does not look at the version", (
        change(Writes, "write_locked", "live and found.version >= version", "False"),
    ), "merge against set", "every 1"),
    Mutant("a merge overwrites what is as new", (
        change(Writes, "write_locked", "live and found.version >= version",
               "live and found.version > version + 1"),
    ), Scenario("a merge of what it has", ((("merge", "a", SHORT, None, "as new"),
                                            ("get", "a")),), (A,)), "every 0"),
    Mutant("a merge is an add", (
        change(Writes, "write_locked", "live and found.version >= version", "live"),
    ), "merge against merge", "every 0"),
    Mutant("a merge looks before it has the lock", (
        change(Writes, "commit", PICKED, PICKED +
               "            if shard.look(packed.hash, packed.type, packed.data, packed.length, "
               "found) == FOUND and mode == IF_NEWER and found.version >= version:\n"
               "                return False\n",
               "mode, deadline, version, found)", "mode & 3, deadline, version, found)"),
    ), "merge against set", "every 1"),
)
