"""What takes time is counted: histograms, and what has passed between two looks."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from .happening import holding


def test_what_has_passed_between_two_looks(make):
    m = make(shards=1)
    for number in range(100):
        m[number] = number
    before = m.stats()
    for number in range(2_100):
        m[number % 7] = number
        m.get(number % 7)
    m.get("none")
    passed = m.stats().since(before)
    assert passed.counts["hits"] == passed.counts["writes"] == 2_100
    assert passed.counts["misses"] == 1 and passed.hit_ratio == 2_100 / 2_101
    assert passed.seconds > 0 and passed.per_s("writes") == 2_100 / passed.seconds
    assert passed.per_s("full") == 0
    with pytest.raises(KeyError, match=r"'written' is none of .*writes"):
        passed.per_s("written")
    with pytest.raises(TypeError, match="not int"):
        m.stats().since(5)  # type: ignore[arg-type]
    # each kind by a count of its own: else one that alternates would have one kind timed only
    assert passed.latency["read"].total == passed.latency["write"].total == 2
    assert passed.latency["lock_hold"].total == passed.latency["write"].total
    assert before.since(m.stats()).seconds == 0.0  # the wrong way round


def test_a_snapshot_is_timed(make):
    m = make()
    m["a"] = 1
    m.snapshot()
    found = m.stats().latency["snapshot"]
    assert found.total == 1 and 0 < found.percentile(50) < 1


def test_what_a_killed_worker_has_counted_stays(make, start):
    m = make(shards=1)

    def work(child: Any) -> None:
        for number in range(3_000):
            m[number % 5] = number
        os._exit(0)

    start(work).reap()
    m.sweep()
    assert m.stats().latency["write"].total == 2 and m.stats().writes == 3_000


def test_a_wait_is_timed(make, start):
    m = make(shards=1, lock_timeout=10)
    child = start(holding(m, lambda child: time.sleep(0.05)))
    child.hear()
    m["a"] = 1
    child.reap()
    found = m.stats().latency["lock_wait"]
    assert found.total == 1 and 0.01 < found.percentile(50) < 1
