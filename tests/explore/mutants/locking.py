"""Faults planted in a shard's own lock: waiting, waking, taking over from the dead."""

from __future__ import annotations

from shmmap.operations._reads_cy import Reads
from shmmap.shard import _lock_cy
from shmmap.shard._lock_cy import ShardLock

from .mutant import A, Mutant, change, death_in, drop

MEND = "if load(shard.mem, S_DIRTY):"
FLAG_AGAIN = "if we give up now.\n    publish(self.mem, S_WAITERS, 1)\n"
LAST_TRY = "    return not self.is_other(me) and compare_exchange(self.mem, S_OWNER, 0, me)"
BEFORE_WAIT = """    if compare_exchange(self.mem, S_OWNER, 0, me):
        return True
    with cython"""

LOCKING = (
    Mutant("compare-and-exchange in two steps", (
        change(_lock_cy, "compare_exchange", "not guard.acquire(offset, CAS_PATIENCE_S)", "False"),
    ), "incr against incr", "every 2"),
    Mutant("a token that a dead holder owed is awaited for ever", (
        change(ShardLock, "wait_for", "    slice_ns: i64 = FIRST_SLICE_NS\n",
               "    slice_ns: i64 = FIRST_SLICE_NS\n"
               "    self.slept = getattr(self, 'slept', False)\n"),  # also in the next look
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
)
