"""Faults planted in the engine, each with what has to find it.

A mutant is a function of the engine compiled anew from its own source with some text replaced.
Each text must be there exactly once, so a mutant never becomes the engine itself unnoticed.
"""

from __future__ import annotations

import inspect
import textwrap
from typing import Any, NamedTuple

from shmmap.operations._near_cy import NearStore
from shmmap.operations._reads_cy import Reads
from shmmap.operations._snapshots_cy import Snapshots
from shmmap.operations._takes_cy import Takes
from shmmap.operations._writes_cy import Writes
from shmmap.shard import _lock_cy
from shmmap.shard._lock_cy import ShardLock
from shmmap.shard._lookup_cy import ShardReader
from shmmap.shard._repair_cy import Repairer
from shmmap.shard._room_cy import ShardRoom
from shmmap.shard._shadow_cy import ShardCopy
from shmmap.shard._shard_cy import Shard
from shmmap.shard._slots_cy import Slots

from ..scenarios.scenario import BOUNDED, LEASE, LONG, PASS, SHORT, SNAP, Operation, Scenario


class Patch(NamedTuple):
    """A function of a class or module, and the texts to replace in it."""

    owner: Any
    name: str
    changes: tuple[tuple[str, str], ...]

    def mutated(self) -> Any:
        """Compile the function with its texts replaced."""
        function = inspect.unwrap(getattr(self.owner, self.name))
        source = textwrap.dedent(inspect.getsource(function))
        for old, new in self.changes:
            found = source.count(old)
            assert found == 1, f"{self.name}: {found} times, not once: {old!r}"
            source = source.replace(old, new)
        scope: dict[str, Any] = {}
        exec(compile(source, inspect.getfile(function), "exec"), function.__globals__, scope)
        return scope[self.name]


class Mutant(NamedTuple):
    """A fault, and what finds it: a scenario (or its name) and a way to run it.

    `finder`: "every N": all schedules with at most N preemptions; "random": random ones; "deaths":
    worker 0 dies at every step of its own ("deaths N": and the others are preempted N times);
    "dies WORD every N": it dies right after it has changed that word of the shard's header;
    "left WORD every N": it has died so before, and the lock is free.
    `most`: schedules within which the fault has to be found.
    """

    name: str
    patches: tuple[Patch, ...]
    scenario: str | Scenario
    finder: str
    most: int = 3000


def change(owner: Any, name: str, *texts: str) -> Patch:
    """Replace the first text by the second, the third by the fourth..."""
    return Patch(owner, name, tuple(zip(texts[::2], texts[1::2], strict=True)))


def drop(owner: Any, name: str, text: str) -> Patch:
    """Leave a text out."""
    return change(owner, name, text, "")


A, B = ("set", "a", SHORT), ("set", "b", SHORT)
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
MEND = "if load(shard.mem, S_DIRTY):"
MISS = "sequence & 1 == 0 and load_behind(self.mem, S_SEQUENCE) == sequence"
FLAG_AGAIN = "if we give up now.\n    publish(self.mem, S_WAITERS, 1)\n"
LAST_TRY = "    return not self.is_other(me) and compare_exchange(self.mem, S_OWNER, 0, me)"
BEFORE_WAIT = """    if compare_exchange(self.mem, S_OWNER, 0, me):
        return True
    with cython"""
RAW = "store(self.mem, self.slots.at({}), "  # a version, unmarked
LOOKS: tuple[Operation, ...] = (("get", "a"), ("set", "b", SHORT), ("get", "a"))


def death_in(*operations: Operation, before: tuple[Operation, ...] = (A,),
             then: tuple[Operation, ...] = LOOKS) -> Scenario:
    """Make the scenario in which somebody looks at what a dead worker left."""
    return Scenario("a death and a survivor", (operations, then), before)


MUTANTS = (
    # -- the write ----------------------------------------------------------------------
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
        change(ShardRoom, "flip", END_OLD, "    pass\n", EVEN,
               "    if room < 0:\n" + END_OLD + EVEN),
    ), "near cache and set", "every 2"),
    Mutant("deleted version ends after the flip", (
        change(ShardRoom, "flip", END_OLD, "    pass\n", EVEN,
               EVEN + "    if room < 0:\n" + END_OLD),
    ), death_in(("delete", "a")), "deaths"),
    Mutant("a state byte says what is live", (
        change(Shard, "put", PUBLISH, PUBLISH + f"    {STATE.format('self.slots', 'head')} = 1\n"),
        drop(ShardRoom, "flip", END_OLD),
        change(ShardRoom, "release_slots", "    fence()\n",
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
        change(Repairer, "problems", "    shard = self.shard\n", "    return []\n"),
    ), death_in(("set", "b", SHORT), before=(("set", "a", LONG), B)), "deaths"),
    Mutant("freed before the flip", (
        change(Shard, "put", FLIP + RELEASE,
               RELEASE.replace("    else:\n", "") + FLIP + "    if not had:\n"),
    ), "a lease is overwritten as it expires", "every 2"),
    Mutant("freed before its place is taken", (
        change(Shard, "put", "    head = self.slots.take(need)\n",
               RELEASE.replace("    else:\n", END_OLD) + "    head = self.slots.take(need)\n",
               FLIP + RELEASE, FLIP + "    if not had:\n"),
        drop(ShardRoom, "flip", END_OLD),
    ), death_in(A), "deaths"),
    Mutant("an entry that expired is freed before the flip", (
        change(ShardRoom, "remove", "    self.flip(hash, 0, found, -1)\n", "",
               "    self.release_slots(found.slot, found.meta)\n",
               "    self.release_slots(found.slot, found.meta)\n"
               "    self.flip(hash, 0, found, -1)\n"),
    ), "sweep against get", "every 2"),
    Mutant("pop takes another version than it gives", (
        change(Takes, "take_version", "found.version != version", "False"),
    ), "pop against set, long", "every 2"),
    Mutant("popitem takes what was changed since", (
        change(Takes, "take_offered", "shard.confirm(found) and not shard.is_expired(found)",
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
        change(ShardRoom, "release_slots", "self.expiry.forget(slot)", "pass"),
        change(ShardRoom, "reclaim", "self.expiry.forget(slot)", "pass"),
    ), "sweep against set", "every 1"),
    Mutant("eviction takes what is being overwritten", (
        drop(ShardRoom, "evict_one", " and slot != keep"),
    ), "evict for an own longer value", "every 1"),
    # -- the merge ----------------------------------------------------------------------
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
        change(Writes, "commit", "    status: i64\n",
               "    if shard.look(packed.hash, packed.type, packed.data, packed.length, found) "
               "== FOUND and mode == IF_NEWER and found.version >= version:\n"
               "        return False\n",
               "mode, deadline, version, found)", "mode & 3, deadline, version, found)"),
    ), "merge against set", "every 1"),
    # -- the read -----------------------------------------------------------------------
    Mutant("a miss rests on no sequence", (
        change(ShardReader, "look", MISS, "True"),
    ), "get in a rebuild", "every 1"),
    Mutant("a miss rests on a sequence that may be odd", (
        change(ShardReader, "look", MISS, "load_behind(self.mem, S_SEQUENCE) == sequence"),
    ), "get in a rebuild", "every 2"),
    Mutant("a miss rests on the sequence before it", (
        change(ShardReader, "look", MISS, "sequence & 1 == 0"),
    ), "get in a rebuild", "every 2"),
    Mutant("no second look at the index word", (
        drop(ShardReader, "confirm", "and load(self.mem, word_at) & WORD_MASK == found.word"),
    ), "get and set", "every 2"),
    Mutant("no second look at the version", (
        drop(ShardReader, "confirm", "load_behind(self.mem, at) == found.version\n        and "),
    ), "get and set", "every 1"),
    Mutant("deadline read after the second look", (
        change(Reads, "try_fetch", "    if shard.is_expired(found):\n        raw = MISSING\n"
               "    elif wants_value:", "    if wants_value:",
               "    return raw if shard.confirm(found) else None",
               "    if raw is None or not shard.confirm(found):\n        return None\n"
               "    return MISSING if shard.is_expired(found) else raw"),
    ), "sweep against get", "every 2"),
    Mutant("readers have a coarse clock", (
        change(ShardReader, "is_expired", "self.clock.now()", "self.clock.now() // 1000 * 1000"),
    ), "it expires", "every 1"),
    # -- the near cache -----------------------------------------------------------------
    Mutant("a near cache does not compare the version", (
        drop(Reads, "is_current", "load(shard.mem, held.at) != held.version or "),
    ), "near cache and set", "every 1"),
    Mutant("a near cache looks at no deadline", (
        drop(Reads, "is_current", " or held.expired(now_ns)"),
    ), "near cache, it expires", "every 2"),
    Mutant("a read keeps what it read, though more was seen meanwhile", (
        change(NearStore, "finish", "self.drop(key)", "self.entries[key] = fresh"),
        change(NearStore, "drop", "bury(entry)", "pass"),
    ), "two threads, one writes", "every 2"),
    Mutant("a read that is not the last does not take out the others'", (
        change(NearStore, "finish", "self.drop(key)", "pass"),
    ), "two threads, another process writes", "every 2", 20000),
    Mutant("an own write leaves what was held", (
        change(Writes, "commit", "self.near.drop(key)", "pass"),
    ), "bounded, own writes", "every 1"),
    Mutant("a miss leaves what was held", (
        change(Reads, "near_fetch", "if raw is MISSING:\n        near.drop(key)",
               "if raw is MISSING:\n        pass"),
    ), Scenario("a miss, then a longer bound", (
        (BOUNDED, BOUNDED, ("bounded", "a", 10 * LEASE)), (("delete", "a"), PASS),
    ), (A,)), "every 2"),
    Mutant("what only looks is not noticed", (
        change(Reads, "__contains__", "self.near.saw(", "(lambda *seen: None)("),
    ), "bounded and delete", "every 2"),
    Mutant("a bounded answer is of any age", (
        change(Reads, "near_read", "now_ns - held.read_ns <= consistency", "True"),
    ), "bounded and set", "every 2"),
    Mutant("a bounded answer is aged from when it was kept", (
        change(Reads, "near_fetch", "fresh.read_ns = now_ns", "fresh.read_ns = self.clock.now()"),
    ), "bounded and set", "every 3", 20000),
    Mutant("a bounded answer may be expired", (
        change(Reads, "near_read", "not held.expired(now_ns)", "True"),
    ), "bounded, it expires", "every 1"),
    Mutant("a session answers what it holds though it may wait", (
        change(Reads, "near_fetch", "raw = self.fetch(packed, found, VALUE_UNLOCKED)\n", "raw = None\n"),
    ), "session and set", "every 1"),
    Mutant("repair meets the newest where it lies", (
        change(Repairer, "run", "version == newest and not last", "False"),
    ), Scenario("near cache, a death, a repair, a thread each read", (
        (A,), (("near", "a"),), (B,), (("get", "a"),), (("near", "a"),),
    ), (B, A, A), homes=(0, 1, 2, 3, 1)), "left SEQUENCE every 1"),
    # -- the lock -----------------------------------------------------------------------
    Mutant("compare-and-exchange in two steps", (
        change(_lock_cy, "compare_exchange", "not guard.acquire(offset, CAS_PATIENCE_S)", "False"),
    ), "incr against incr", "every 2"),
    Mutant("a token that a dead holder owed is awaited for ever", (
        change(ShardLock, "wait_for", "    slice_ns: i64 = FIRST_SLICE_NS\n",
               "    slice_ns: i64 = FIRST_SLICE_NS\n    self.slept = False\n"),
        change(ShardLock, "wait_slice", BEFORE_WAIT,
               BEFORE_WAIT.replace("if ", "if not self.slept and "),
               "sem_wait(self.semaphore", "self.slept = not sem_wait(self.semaphore",
               LAST_TRY, LAST_TRY.replace("return ", "return not self.slept and ")),
    ), "three counters", "random"),
    Mutant("two take over from the dead", (
        change(ShardLock, "wait_for",
               "if not self.is_other(me) and compare_exchange(self.mem, S_OWNER, owner, me):",
               "if (store(self.mem, S_OWNER, me), True)[1]:"),
    ), "three counters", "dies OWNER every 2"),
    Mutant("released without waking", (
        change(ShardLock, "release", "sem_wake(self.semaphore)", "pass"),
    ), "three counters", "every 1"),
    Mutant("who was woken wakes nobody", (
        change(ShardLock, "wait_slice", FLAG_AGAIN, FLAG_AGAIN.partition("\n")[0] + "\n"),
    ), "three counters", "every 2"),
    Mutant("no try after raising the flag", (
        drop(ShardLock, "wait_slice", BEFORE_WAIT.partition("    with")[0]),
    ), "incr against incr", "every 2"),
    Mutant("the flag is looked at before the lock is free", (
        change(ShardLock, "release", "    publish(self.mem, S_OWNER, 0)\n    if load",
               "    waiters = load(self.mem, S_WAITERS)\n    publish(self.mem, S_OWNER, 0)\n"
               "    if load", "(self.mem, S_WAITERS):", "(self.mem, S_WAITERS) and waiters:"),
    ), "incr against incr", "every 2"),
    Mutant("a dead holder's shard is not repaired", (
        change(Reads, "hold", MEND, "if False:"),
    ), death_in(A), "deaths"),
    # -- the repair ---------------------------------------------------------------------
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
    # -- snapshots ----------------------------------------------------------------------
    Mutant("put does not mark what it wrote", (
        change(Shard, "put", PUBLISH, f"    {RAW.format('head')}found.version)\n"),
    ), "snapshot of new keys", "every 2"),
    Mutant("a flip does not mark what it ended", (
        change(ShardRoom, "flip", END_OLD, f"        {RAW.format('found.slot')}0)\n"),
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
        change(Snapshots, "_cut", "began = clock_ns(1)",
               "began = clock_ns(1)\n"
               "        for copy in all_copies:\n            copy.forget_tracking(self.token())",
               "not copy.is_tracked(self.token())", "False"),
    ), "snapshot between two sets", "every 2"),
    Mutant("each shard is held alone", (
        change(Snapshots, "_cut", """                    failed = shard.number
                    break
""", """                    failed = shard.number
                    break
                all_copies[shard.number].copy_changed(1 << 62)
                all_copies[shard.number].stop()
                self.drop(shard)
""", "not copy.is_tracked(self.token())", "False", """                for copy in all_copies:
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
