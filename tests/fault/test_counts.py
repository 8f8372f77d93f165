"""len, bool, stats and listings agree after a writer's death, and while one is stopped."""

from __future__ import annotations

import random
import time

import pytest

from shmmap.memory.layout import constants
from shmmap.tools import inspection

from ..support.damage import Damage

K = constants()


def seen(m) -> tuple[int, ...]:
    """Count the entries in every way there is; without a lock first."""
    outside = sum(s.entries for s in inspection.shards_of(inspection.find_maps(m.name)[0]))
    stats = m.stats()
    return outside, len(m), int(bool(m)), stats.entries, sum(stats.shard_entries), len(list(m))


def dead_token(m) -> int:
    worker = m.attachment.worker
    earlier = (worker.incarnation - 1) & K["INCARNATION_MASK"]
    return worker.row << K["TOKEN_ROW_SHIFT"] | earlier << K["TOKEN_INCARNATION_SHIFT"] | 1


@pytest.mark.parametrize("behind", [0, 2, 9])
@pytest.mark.parametrize("in_repair", [False, True])
def test_a_count_left_behind_by_the_dead(make, behind, in_repair):
    """The header's number is wrong, and nobody takes the lock before the counting."""
    m = make(shards=1)
    for i in range(5):
        m[i] = i
    m.set("gone", 1, ttl=5)
    m.attachment.clock.frozen_ns = m.attachment.clock.now_ns() + 10 * 10**9
    d = Damage(m)
    d.set_header("DIRTY", 1)
    d.set_header("ENTRIES", behind)
    if in_repair:
        d.set_header("REBUILDS", d.header("REBUILDS") | 1)
    d.set_header("OWNER", dead_token(m))
    assert len(m) == 5 and bool(m)
    assert d.header("DIRTY") == 0 and d.header("OWNER") == 0
    assert seen(m)[1:] == (5, 1, 5, 5, 5) and not m.check()


@pytest.mark.parametrize("behind", [0, 2, 9])
def test_nobody_waits_for_a_stopped_writer_to_count(make, start, behind):
    m = make(shards=1, lock_timeout=30)
    for i in range(5):
        m[i] = i

    def stay(child):
        m.get(0)
        child.tell(m.attachment.worker.fork_page.word)
        child.hear()

    child = start(stay)
    token = child.hear() | 1
    d = Damage(m)
    d.set_header("DIRTY", 1)
    d.set_header("ENTRIES", behind)
    d.set_header("OWNER", token)
    child.stop()
    began = time.monotonic()
    assert seen(m) == (5, 5, 1, 5, 5, 5)
    assert time.monotonic() - began < 5
    assert d.header("OWNER") == token and d.header("DIRTY") == 1
    child.go_on()
    child.tell("end")
    d.set_header("ENTRIES", 5)
    d.set_header("DIRTY", 0)
    d.set_header("OWNER", 0)


def test_counts_after_real_kills(make, start):
    """Kill a writer that adds and removes one key; whatever it was at, all counts agree."""
    draw = random.Random(11)
    m = make(shards=1)

    def work(child):
        while True:
            m["k"] = 1
            del m["k"]

    for _ in range(25):
        child = start(work)
        time.sleep(0.003 + draw.random() / 300)
        child.kill()
        found = len(m), int(bool(m)), m.stats().entries, len(list(m))
        assert len(set(found)) == 1, found
        m.clear()
