"""The eviction policy through the map: its hit ratios, decided by what stats() counts."""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest


def zipf(skew: float, keys: int, requests: int, seed: int) -> list[int]:
    """Draw requests for keys of Zipf-distributed popularity, the popular ones anywhere."""
    generator = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, keys + 1) ** skew
    ranks = generator.choice(keys, requests, p=weights / weights.sum())
    return generator.permutation(keys)[ranks].tolist()


def replay(m: Any, requests: list[int]) -> float:
    """Read each key, write it where it is missing; give the map's own hit ratio."""
    before = m.stats()
    for key in requests:
        if m.get(key) is None:
            m[key] = key
    after = m.stats()
    assert after.hits - before.hits + after.misses - before.misses == len(requests)
    return (after.hits - before.hits) / len(requests)


def lru(entries: int, requests: list[int]) -> float:
    """Simulate the hit ratio of a least-recently-used cache."""
    cache: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for key in requests:
        if key in cache:
            hits += 1
            cache.move_to_end(key)
        else:
            cache[key] = None
            if len(cache) > entries:
                cache.popitem(last=False)
    return hits / len(requests)


@pytest.mark.parametrize("shards", [1, 4])
def test_it_beats_lru_on_a_zipf_load(make, shards):
    m = make(size=f"{160 + 40 * shards}KB", shards=shards, on_full="evict")
    requests = zipf(0.9, 8000, 24_000, seed=shards)
    got = replay(m, requests)
    entries = len(m)
    assert m.stats().free_slots <= 2 * shards, "it was full"
    assert m.stats().evicted > 1000
    reference = lru(entries, requests)
    assert got > reference + 0.02, (got, reference, entries)
    assert m.check() == []


def test_a_loop_longer_than_the_map_still_hits(make):
    m = make(size="200KB", shards=1, on_full="evict")
    loop = list(range(m.attachment.geometry.slots * 3 // 2))
    replay(m, loop * 10)  # the probation queue finds its size
    assert replay(m, loop * 10) > 0.3
    assert lru(m.attachment.geometry.slots, loop * 4) == 0.0
    assert m.check() == []


def test_a_scan_does_not_drive_out_what_is_in_use(make):
    m = make(size="200KB", shards=1, on_full="evict")
    slots = m.attachment.geometry.slots
    used = list(range(slots // 4))
    replay(m, used * 5)
    for key in range(10**6, 10**6 + 3 * slots):
        m[key] = key
    assert sum(key in m for key in used) > len(used) * 0.8
    assert m.check() == []


def test_entries_of_many_slots_are_chosen_as_well(make):
    """The queue is for entries: one for as many slots would hold them all, and any would go."""
    m = make(size="600KB", shards=1, on_full="evict")
    requests = zipf(0.9, 3000, 12_000, seed=3)
    before = m.stats()
    for key in requests:
        if m.get(key) is None:
            m[key] = bytes(1000)
    got = (m.stats().hits - before.hits) / len(requests)
    entries = len(m)
    assert entries < m.attachment.geometry.slots / 8
    assert got > lru(entries, requests) + 0.02
    assert m.check() == []


def test_what_is_asked_for_lately_stays(make):
    """A load for which LRU is all but the best that there is: each key soon again, or never."""
    m = make(size=149_152, shards=1, on_full="evict")
    slots = m.attachment.geometry.slots - 1
    draw = random.Random(1)
    requests: list[int] = []
    for at in range(15 * slots):
        back = round(draw.lognormvariate(math.log(slots / 2), 1)) + 1
        fresh = draw.random() < 0.25 or back > at
        requests.append(at if fresh else requests[at - back])
    assert replay(m, requests) > lru(slots, requests) - 0.02
    assert m.check() == []
