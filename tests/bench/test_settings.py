"""The map itself: shards, listing, hash, cleanup, layout: a tiny run of each."""

from __future__ import annotations

import os
from itertools import product

import numpy as np
import pytest

import shmmap
from bench.core import perf_counters
from bench.core.results import OURS
from bench.core.workloads import QUICK, key_of
from bench.load.ordered_writes import turn_value
from bench.peers.own_map import freeze, remove
from bench.scenarios import scenarios
from bench.scenarios.design import (
    auto_shards,
    boxed,
    churn_hour,
    cleanup,
    evenness,
    listing,
    shards,
)

from .runs import DESIGN_SCALE, design_rows, measured, setup_of

pytestmark = pytest.mark.skipif(shmmap.ENGINE == "pure", reason="the same with either engine")

# -- shards, listing ----------------------------------------------------------------------


def test_shards():
    rows = design_rows(shards.SHARDS._replace(name="tried"))
    points = {(row.peer, row.point["shards"]) for row in rows}
    assert points == set(product(("1 process", "2 processes"), (1, 4)))
    for row in rows:
        assert all(rate > 0 for rate in row.samples["per_s"])
        assert all(0 <= share < 1 for share in row.samples["share"])
        if row.peer == "1 process":
            assert row.samples["share"] == [0.0, 0.0] and "wait_p99_ns" not in row.samples
    one, four = (next(r for r in rows if r.point["shards"] == n) for n in (1, 4))
    assert 0 < one.median("metadata_bytes") < four.median("metadata_bytes")


def test_what_the_tuner_sees():
    rows = design_rows(auto_shards.AUTO_SHARDS)
    points = {(row.peer, row.point["load"], row.point["shards"]) for row in rows}
    assert points == set(product(("2 processes",), auto_shards.LOADS, (1, 4)))
    for row in rows:
        assert len(row.samples["share"]) == len(row.samples["waited_p99_ns"]) == 2
        assert all(0 <= share < 1 for share in row.samples["share"])
        assert row.facts["rounds"] == 2 >= row.facts["more"] >= 0
        if row.point["load"] == auto_shards.PACED:
            assert 0 < row.median("per_s") <= 1.1 * auto_shards.PACE


def test_listing():
    rows = {row.peer: row for row in design_rows(listing.LISTING)}
    assert set(rows) >= {OURS, listing.ALL_LOCKS, listing.ONE_LOCK, listing.NOBODY}
    for way, row in rows.items():
        assert all(pause > 0 for pause in row.samples["pause_ns"])
        if way != listing.NOBODY:
            assert row.facts["listings"] >= 2 and len(row.samples["p99_ns"]) == 2
    for way in (listing.ALL_LOCKS, listing.ONE_LOCK):
        assert rows[way].samples["torn"] == [0.0, 0.0]


def test_what_no_listing_may_show_is_found(name):
    m = shmmap.ShmMap.create(name, size="1MB", ephemeral=True)
    m.set_many((key_of(n), turn_value(0)) for n in range(10))
    lister = listing.ListingJob(name, 10, OURS).begin(listing.LISTER)
    try:
        sound = dict(m.items())
        assert lister.wrong(sound) == ""
        assert "9 of 10" in lister.wrong(dict(list(sound.items())[1:]))
        assert "nobody wrote" in lister.wrong({**sound, key_of(3): b"0" * 16})
        torn = [turn_value(n) for n in (2, 1, 2)]
        assert not listing.of_one_moment(torn)
        assert listing.of_one_moment([turn_value(n) for n in (2, 2, 1)])
        assert not listing.of_one_moment([turn_value(n) for n in (2, 2, 0)])
    finally:
        lister.close()
        remove(m)


# -- evenness ---------------------------------------------------------------------------------


def test_evenness_of_our_hash():
    pytest.importorskip("scipy")
    rows = design_rows(evenness.EVENNESS)
    assert {(row.peer, row.point["shards"]) for row in rows} == set(
        product(evenness.KEYS, evenness.SHARDS)
    )
    for row in rows:
        assert len(row.samples["chi2_p"]) == 3 and row.facts["keys"] == 3_000
        assert 0.8 < row.median("spread") / row.facts["usual_spread"] < 1.25


@pytest.mark.parametrize("bad", [
    lambda data, kind, seed: int.from_bytes(data[:8].ljust(8, b"\0"), "big"),  # the key itself
    lambda data, kind, seed: (sum(data) * 0x9E3779B97F4A7C15) & (2**64 - 1),  # of few values
], ids=["identity", "sum"])
def test_a_bad_hash_is_found(bad):
    pytest.importorskip("scipy")
    rows = measured(evenness.EVENNESS._replace(hashed=bad), setup_of(DESIGN_SCALE))
    wrong = {row.peer for row in rows if row.problem}
    assert {"sequential", "one bit", "prefix of 1 kB", "URL-like"} <= wrong


def test_a_hash_that_is_too_even_is_found():
    pytest.importorskip("scipy")
    seen: list[int] = []

    def in_turn(data: bytes, kind: int, seed: int) -> int:
        seen.append(0)
        return (len(seen) % 128) << 57

    rows = measured(evenness.EVENNESS._replace(hashed=in_turn), setup_of(DESIGN_SCALE))
    assert all("ks_p" in row.problem for row in rows)


@pytest.mark.parametrize("kind", evenness.KEYS)
def test_keys_of_each_kind_differ(kind):
    keys = list(evenness.KEYS[kind](9_000))
    assert len(set(keys)) == len(keys) == 9_000


def test_loads_are_those_of_a_real_map(name):
    with shmmap.ShmMap.create(name, capacity=2_000, shards=32, ephemeral=True) as m:
        for key in evenness.like_urls(1_000):
            m[key] = b""
        keys = evenness.encoded(evenness.like_urls(1_000))
        found = evenness.hashes(keys, m.attachment.seed, evenness.shmmap_hash)
        assert tuple(evenness.loads(found, 32)) == m.stats().shard_entries


def test_p_values_of_chance_are_usual():
    pytest.importorskip("scipy")
    rng = np.random.default_rng(1)
    judged = [evenness.judge(rng.multinomial(6_400, [1 / 64] * 64)) for _ in range(300)]
    small = {f: sum(each[f] < 0.05 for each in judged) for f in ("chi2_p", "ks_p")}
    assert 3 <= small["chi2_p"] <= 35 and small["ks_p"] <= 25


# -- cleanup, boxed ---------------------------------------------------------------------------


def test_cleanup():
    rows = design_rows(cleanup.CLEANUP)
    assert [row.point["expired"] for row in rows] == list(cleanup.SHARES)
    for row in rows:
        assert row.facts["holds"] >= row.facts["shards"]
        assert all(p99 <= most for p99, most in zip(
            row.samples["p99_ns"], row.samples["most_ns"], strict=True))


def test_a_sweep_that_leaves_entries_is_found(make):
    m = make(capacity=500)
    freeze(m)
    keys = [key_of(n) for n in range(300)]
    m.set_many(dict.fromkeys(keys, b"v"), ttl=cleanup.LONG_S)
    lane = cleanup.CleanupLane("tried", m, keys, b"v", 50.0)
    lane.repeat(0)
    assert lane.problem == "" and lane.sweeps[0][2] == 150
    m.touch = lambda key, ttl: None  # nothing expires
    lane.repeat(1)
    assert "0 of 150" in lane.problem


def test_churn():
    rows = design_rows(churn_hour.CHURN_HOUR._replace(minutes=3, every=1))
    assert [row.point["minute"] for row in rows] == [1, 2, 3, 5]
    assert all(row.median("count") > 100 for row in rows[:-1]) and rows[-1].median("count") == 0
    assert len({row.median("bytes") for row in rows}) == 1


def test_growth_is_found(make):
    m = make(capacity=500)
    clock = freeze(m)
    before = m.stats()
    m.set("stays", b"v" * 300)
    churn_hour.expire(m, clock)
    assert "entries: 0 before, 1 after" in churn_hour.grown(before, m)
    del m["stays"]
    assert churn_hour.grown(before, m) == ""


def test_boxed():
    rows = design_rows(boxed.BOXED)
    forms = [form.name for form in boxed.FORMS]
    assert {(row.peer, row.point["order"]) for row in rows} == set(product(forms, boxed.ORDERS))
    assert all(len(row.samples["ns"]) == 2 for row in rows)


def test_a_wrong_sum_is_found():
    keys = [key_of(n) for n in range(20)]
    data = {key: boxed.record(n) for n, key in enumerate(keys)}
    lane = boxed.BoxedLane("tried", boxed.FORMS[0], "sequential", data.__getitem__, keys)
    lane.repeat(0)
    assert lane.problem == ""
    data[keys[3]] = boxed.record(4)
    lane.repeat(1)
    assert "the sum is" in lane.problem


PERF = """#!/bin/sh
trap 'echo "{clock},msec,task-clock,1,100.00,," >&2
      echo "4000000,,cycles:u,1,100.00,," >&2; echo "2000,,cache-misses:u,1,100.00,," >&2
      exit 130' INT
case "$*" in
  *-p*) while :; do sleep 0.01; done ;;
  *) kill -INT $$ ;;
esac
"""


@pytest.mark.parametrize("clock, seen", [("100000", True), ("0.001", False)])
def test_counters_are_those_of_perf_unless_it_came_too_late(monkeypatch, tmp_path, clock, seen):
    perf = tmp_path / "perf"
    perf.write_text(PERF.format(clock=clock))
    perf.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = perf_counters.counted(lambda: sum(range(300_000)))
    assert found == ({"cycles": 4e6, "cache-misses": 2000.0} if seen else {})


def test_without_counters_there_is_a_reason(monkeypatch, tmp_path):
    perf_counters.why_not.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    try:
        assert "perf" in perf_counters.why_not()
    finally:
        perf_counters.why_not.cache_clear()


def test_names_are_unique_and_quick_ones_need_no_build():
    names = [scenario.name for scenario in scenarios("design.")]
    assert len(set(names)) == len(names)
    quick = {scenario.name for scenario in scenarios("design.") if scenario.quick}
    assert quick == {"shards", "designs-1000", "evenness", "resize-move"} and not QUICK.builds
