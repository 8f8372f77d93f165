"""Faults planted in how an entry is changed by what it holds."""

from __future__ import annotations

from shmmap.locks import editing
from shmmap.operations import changes

from .mutant import Mutant, change

LATE = "versioned(m, key)[1]"  # the version of what may have been written since it was read

CHANGING = (
    Mutant("apply writes over what it has not read", (
        change(changes, "change", "new, version,", f"new, {LATE},"),
    ), "apply against apply", "every 1"),
    Mutant("apply does not try again", (
        change(changes, "change", "if store(m, key, new, version, deadline_ns, ttl, evict):",
               "if store(m, key, new, version, deadline_ns, ttl, evict) or True:"),
    ), "apply against incr", "every 1"),
    Mutant("an edit writes over what it has not read", (
        change(editing, "_write", "value, version,", f"value, {LATE},"),
    ), "edit against incr", "every 1"),
    Mutant("an edit is stored whatever came between", (
        change(editing, "_write", "store(m, key, value, version, deadline_ns, ttl, evict)",
               "[m.set(key, value)]"),
    ), "edit of a new key", "every 1"),
    Mutant("floats are added to what was there before", (
        change(changes, "add", "total, version,", f"total, {LATE},"),
    ), "floats against floats", "every 1"),
    Mutant("a change is written whatever the version", (
        change(changes, "put_if", "IF_VERSION if evict", "ALWAYS if evict",
               "    mode: i64", "    from shmmap.shard._status import ALWAYS\n    mode: i64"),
    ), "floats against incr", "every 1"),
)
