"""A writer that dies at every single store of every kind of change.

Only the pure engine can: the explorer does it access by access, on a simulated machine; here real
processes are killed, and a real one takes over.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

import shmmap

from ..support.shard_modules import that_have

PURE = shmmap.ENGINE == "pure"

CHANGES = {
    "overwrite": lambda m: m.set("held", b"n" * 500),
    "new entry": lambda m: m.set("fresh", b"n" * 500, ttl=1000),
    "delete": lambda m: m.delete("held"),
    "incr": lambda m: m.incr("count"),
    "touch": lambda m: m.touch("held", 1000),
    "pop": lambda m: m.pop("held"),
    "clear": lambda m: m.clear(),
}


def die_at_store(m: Any, change: Callable[[Any], Any], number: int) -> None:
    """In a child with the pure engine: die right after the `number`th store of a change."""
    m.get("nothing")
    stores = 0
    for function in ("store", "store8", "store16", "store32", "copy_in", "zero"):
        for module in that_have(function):
            original = getattr(module, function)

            def counting(*arguments: Any, original: Any = original) -> None:
                nonlocal stores
                original(*arguments)
                stores += 1
                if stores == number:
                    os.kill(os.getpid(), signal.SIGKILL)

            setattr(module, function, counting)
    change(m)


@pytest.mark.skipif(not PURE, reason="only the pure engine can die at an exact store")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("on_full", ["raise", "evict"])
def test_death_at_every_store_of_a_change(make, start, change, on_full):
    m = make(size="177KB", shards=1, lock_timeout=10.0, on_full=on_full)
    before: dict[Any, Any] = {"held": b"o" * 500, "count": 7, "kept": b"k" * 300}
    deaths = 0
    while True:
        m.clear()
        m.set("held", before["held"], ttl=2000)
        m["count"], m["kept"] = before["count"], before["kept"]
        next_store = deaths + 1
        child = start(lambda child, n=next_store: die_at_store(m, CHANGES[change], n))
        if not os.WIFSIGNALED(child.reap()):
            break
        deaths += 1
        m["after"] = deaths  # takes over, repairs
        assert m.check() == [], f"death after store {deaths}"
        assert m["after"] == deaths
        for key, old in before.items():
            new = {
                "overwrite": {"held": b"n" * 500}, "incr": {"count": 8},
                "delete": {"held": None}, "pop": {"held": None},
                "clear": dict.fromkeys(before),
            }.get(change, {})
            assert m.get(key) in (old, new.get(key, old)), f"{key}, death after store {deaths}"
        assert m.get("fresh") in ((None, b"n" * 500) if change == "new entry" else (None,))
    assert deaths >= 5
