"""Faults planted in how named locks are taken, left and freed."""

from __future__ import annotations

from shmmap.locks.lock_table import LockTable

from .mutant import Mutant, change

FREE = "self.change_own(key, raw, None, 0)"
CHANGE = "self.cas(key, to, version, lease)"
TAKE = "self.cas(key, raw, version, lease)"

NAMED_LOCKS = (
    Mutant("a lock is freed whoever holds it", (
        change(LockTable, "give_back", FREE, "self.delete(key)"),
    ), "one keeps what another's lease was for", "every 1"),
    Mutant("a lock is freed without its version", (
        change(LockTable, "change_own", CHANGE,
               f"(self.delete(key) if to is None else {CHANGE})"),
    ), "one keeps what another's lease was for", "every 1"),
    Mutant("a dead holder's lock is taken without its version", (
        change(LockTable, "try_take", TAKE, "(self.set(key, raw, lease), True)[1]"),
    ), "one keeps what a dead holder had", "every 1"),
    Mutant("a free lock is taken without looking", (
        change(LockTable, "try_take", "self.add(key, raw, lease)",
               "(self.set(key, raw, lease), True)[1]"),
    ), "one keeps what another wants", "every 1"),
    Mutant("nobody is dead", (
        change(LockTable, "is_abandoned", "return part.is_dead(record.token)",
               "return False"),
    ), "two want one named lock", "deaths 0"),
    Mutant("everybody is dead", (
        change(LockTable, "is_abandoned", "return part.is_dead(record.token)",
               "return True"),
    ), "two want one named lock", "every 1"),
    Mutant("a lease is extended without its version", (
        change(LockTable, "change_own", CHANGE,
               f"((self.set(key, to, lease), True)[1] if to == raw else {CHANGE})"),
    ), "one keeps what another extends", "every 1"),
    Mutant("who leaves gives up where a renewal was quicker", (
        change(LockTable, "change_own", "range(OWN_TRIES)", "range(1)"),
    ), "its holder leaves as its lease is renewed", "every 1"),
    Mutant("a sweep frees what was taken over meanwhile", (
        change(LockTable, "drop_abandoned", "self.give_back(key, raw)", "self.delete(key)"),
    ), "one keeps what a sweep finds dead", "every 1"),
)
