"""How long writers have waited for a shard's lock, as the shard counts it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from shmmap.moving.observing import observe
from shmmap.moving.tuning import CLASSES

from ...support.shard0 import lock_of, token, word

WAITS = [f"WAITS{n}" for n in range(CLASSES)]


@pytest.mark.parametrize("held_s", [0.0, 0.01, 0.2])
def test_a_wait_is_counted_by_how_long_it_took(make, start, held_s):
    """At least as long as the lock was held with somebody waiting, at most as long as it took."""
    m = make(shards=1)
    m["k"] = 0
    lock, me = lock_of(m), token(m)

    def write(child: Any) -> float:
        m["k"]  # joins
        child.hear()
        began = time.monotonic()
        m["k"] = 1
        return time.monotonic() - began

    child = start(write)
    lock.lock(me, 10**9)
    try:
        child.tell("go")
        while not word(m, "WAITERS"):
            time.sleep(0.0005)
        waited_from = time.monotonic()
        time.sleep(held_s)
        at_least_s = time.monotonic() - waited_from
    finally:
        lock.unlock()
    at_most_s = child.result()
    counted = [word(m, name) for name in WAITS]
    assert sum(counted) == 1 == m.stats().lock_waits
    number = counted.index(1)
    lowest = 0 if number == 0 else 2.0 ** (11 + 3 * number)
    highest = float("inf") if number == CLASSES - 1 else 2.0 ** (14 + 3 * number)
    assert lowest <= at_most_s * 1e9 and at_least_s * 1e9 <= highest
    assert observe(m.attachment).waits == (tuple(counted),)


def test_all_waits_are_counted_in_the_shards_too(make, start):
    """Of processes that wait for each other: each wait once, in its shard."""
    m = make(shards=2)
    m["begun"] = True

    def write(child: Any) -> int:
        written = 0
        while m.attachment.worker.totals()["waits"] < 20:
            for turn in range(1_000):
                m[turn % 8] = written
            written += 1_000
        return written

    written = sum(child.result() for child in [start(write) for _ in range(3)])
    seen = observe(m.attachment)
    assert sum(map(sum, seen.waits)) == m.stats().lock_waits >= 20
    assert seen.changes == written + 1
