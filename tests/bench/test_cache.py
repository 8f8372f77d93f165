"""The benchmarks of a cache: traces, policies on traces made by hand, the map beside them."""

from __future__ import annotations

import itertools
import random
from typing import Any

import cachetools
import pytest

import shmmap
from bench import peers
from bench.core import targets
from bench.core.workloads import QUICK
from bench.policies import (
    POLICIES,
    Belady,
    Fifo,
    Lru,
    S3Fifo,
    Sieve,
    TinyLfu,
    real_map,
)
from bench.policies.traces import TRACES, Trace
from bench.report import hit_ratio_table
from bench.report.text import report
from bench.scenarios import BESIDE_CACHE, churn, select, select_cache
from bench.scenarios.cache import hit_ratios, mixed_sizes, near, snapshots, stampede

from ..support.engines import once
from .runs import kept, measured, setup_of

pytestmark = once  # the same with either engine

TINY = QUICK._replace(
    caches=((200, 3_000),), cache_repetitions=2, churn_bytes=300_000, memory_bytes=500_000,
)
SIMULATED = [policy for policy in POLICIES if policy is not TinyLfu]


def rows_of(scenario: Any) -> list[Any]:
    return measured(scenario, setup_of(TINY))


def zipf_like(requests: int, seed: int) -> list[int]:
    draw = random.Random(seed)
    return [int(draw.paretovariate(0.7)) % 200 for _ in range(requests)]


@pytest.mark.parametrize(("policy", "hits"), [(Lru, 1), (Fifo, 2), (Belady, 3)])
def test_a_trace_by_hand(policy, hits):
    # LRU: 3 drives 2 out, 2 drives 1 out; FIFO: 3 drives 1 out; the optimum lets 3 pass by
    assert policy(2).replay([1, 2, 1, 3, 2, 1]) == hits


def test_lru_is_that_of_cachetools():
    for seed, entries in itertools.product(range(3), (1, 7, 50)):
        keys = zipf_like(2_000, seed)
        other, hits = cachetools.LRUCache(entries), 0
        for key in keys:
            if key in other:
                hits += 1
                other[key]
            else:
                other[key] = None
        mine = Lru(entries)
        assert mine.replay(keys) == hits and set(mine.held) == set(other)


def test_sieve_leaves_its_hand_where_it_evicted():
    sieve = Sieve(3)
    assert sieve.replay([1, 2, 3, 1, 4]) == 1
    assert set(sieve.asked) == {1, 3, 4} and sieve.hand == 3  # 1 was asked for: 2 went
    assert sieve.asked[1] is False
    sieve.replay([5])
    assert set(sieve.asked) == {1, 4, 5}  # the hand goes on from 3, it does not go back to 1
    sieve.replay([4, 5, 6])
    assert set(sieve.asked) == {4, 5, 6}  # past 4 and 5, and round to 1
    sieve.replay(list(range(100)))
    assert len(sieve.asked) == 3


def test_s3_fifo_lets_scans_pass():
    s3 = S3Fifo(10)
    s3.replay([1, 1, 1, *range(100, 110)])  # asked for twice again: from the small queue to main
    assert list(s3.main) == [1] and 1 in s3.hits_of
    s3.replay(list(range(200, 300)))
    assert 1 in s3.hits_of and len(s3.hits_of) == 10
    once = S3Fifo(10)
    once.replay([1, 1, *range(100, 110)])
    assert 1 not in once.hits_of and 1 in once.ghosts  # asked for once again is not enough
    once.replay([1])
    assert list(once.main) == [1]  # remembered: to main at once
    assert len(once.ghosts) <= 9


def best(keys: list[int], held: frozenset[int], entries: int) -> int:
    """Try everything."""
    if not keys:
        return 0
    key, *rest = keys
    if key in held:
        return 1 + best(rest, held, entries)
    more = held | {key}
    if len(more) <= entries:
        return best(rest, more, entries)
    return max(best(rest, more - {victim}, entries) for victim in more)


def test_belady_is_the_best_there_is():
    draw = random.Random(5)
    for _ in range(60):
        keys = [draw.randrange(5) for _ in range(9)]
        assert Belady(2).replay(keys) == best(keys, frozenset(), 2), keys
    keys = zipf_like(3_000, 1)
    most = Belady(20).replay(keys)
    for policy in SIMULATED:
        assert policy(20).replay(keys) <= most, policy
    for policy in POLICIES:  # what fits is never missed again
        if not policy.missing() and policy is not TinyLfu:
            assert policy(300).replay(keys) == len(keys) - len(set(keys)), policy


@pytest.mark.skipif(bool(TinyLfu.missing()), reason="theine is not installed")
def test_theine_counts_hits():
    assert TinyLfu(100).replay([1, 2, 1, 2, 3]) == 2


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.name)
def test_traces_are_drawn_again_alike(trace):
    keys = trace.keys(100, 2_000, 1)
    assert keys == trace.keys(100, 2_000, 1) and min(keys) >= 0
    assert len(keys) == max(2_000, trace.least * 100)
    assert len(set(keys)) > 100, "they do not all fit"
    assert all(type(key) is int for key in keys[:10])
    if "loop" not in trace.name or "mixed" in trace.name:
        assert keys != trace.keys(100, 2_000, 2)


def test_traces_are_what_they_say():
    by_name = {trace.name: trace for trace in TRACES}
    assert by_name["loop"].keys(100, 3_000, 1)[:301] == [*range(150), *range(150), 0]
    share = [
        max(map(by_name[name].keys(100, 20_000, 1).count, range(1_000)))
        for name in ("zipf-0.6", "zipf-0.9", "zipf-1.1")
    ]
    assert share == sorted(share) and share[2] > 1.5 * share[1] > 3 * share[0]
    scanned = [key for key in by_name["scans"].keys(100, 3_000, 1) if key >= 1_000]
    assert len(scanned) == len(set(scanned)) == 1_000
    early, late = (by_name["drift-fast"].keys(100, 10_000, 1)[part] for part in
                   (slice(0, 1_000), slice(-1_000, None)))
    assert max(set(early), key=early.count) != max(set(late), key=late.count)
    fresh = len(set(by_name["recency"].keys(100, 10_000, 1)))
    assert 2_300 < fresh < 2_800


@pytest.mark.parametrize("shards", [1, 4, None])
def test_the_map_holds_as_many_entries_as_the_others(shards):
    made = real_map.RealMap(1_500, shards)
    try:
        assert 1_490 < made.entries <= 1_500
        keys = list(range(5_000))
        assert made.replay(keys) == 0
        assert made.problem(keys, 0) == ""
        assert len(made.handle) == made.entries
        assert made.replay([4_999]) == 1
        assert "stats say 1" in made.problem([4_999], 0)
        made.handle[1] = 2
        assert made.problem([*keys, 4_999], 1) != ""
        name = made.handle.name
    finally:
        made.close()
    with pytest.raises(shmmap.MapNotFound):
        shmmap.ShmMap.attach(name)


def test_hit_ratios_of_all():
    trace = next(trace for trace in TRACES if trace.name == "zipf-0.9")
    rows = rows_of(hit_ratios.HitRatio(trace))
    names = [policy.name for policy in POLICIES if not policy.missing()]
    assert [row.peer for row in rows] == ["shmmap", "shmmap, 1 shard", *names]
    assert [row.problem for row in rows] == [""] * len(rows)
    by_name = {row.peer: row for row in rows}
    assert by_name["LRU"].samples["over_lru"] == [0.0, 0.0]
    most = by_name["optimal (Belady)"].samples["hit_percent"]
    for row in rows:
        assert row.point == {"entries": 200} and row.facts["held"] == rows[0].facts["held"]
        assert len(row.samples["hit_percent"]) == 2
        for hit, best_hit in zip(row.samples["hit_percent"], most, strict=True):
            assert 0 < hit <= best_hit
    assert rows[0].facts["evicted"] > 0
    assert min(rows[0].samples["over_lru"]) > 0, "the map beats LRU on a Zipf load"


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(TinyLfu, "missing", staticmethod(lambda: "pip install theine"))
    turns = hit_ratios.replay([1, 2, 3, 1], 100)
    assert TinyLfu.name not in turns
    assert "pip install theine" in turns["shmmap"].facts["left_out"]


def test_entries_of_many_sizes():
    (scenario,) = mixed_sizes.SCENARIOS
    ours, lru = rows_of(scenario)
    assert (ours.peer, lru.peer) == ("shmmap", "LRU") and lru.samples["over_lru"] == [0.0, 0.0]
    for row in (ours, lru):
        assert 0 < row.median("byte_hit_percent") < 100 > row.median("hit_percent") > 0
    assert mixed_sizes.replay_lru(3, [1, 2, 1, 3, 1], [0, 10, 20, 30], [0, 1, 2, 2]) == (40.0, 25.0)


@pytest.mark.parametrize("name", ["memory-churn-64", "memory-churn-ttl-mixed"])
def test_churn(name):
    (scenario,) = (s for s in churn.SCENARIOS if s.name == name)
    rows = rows_of(scenario)
    assert [row.point["when"] for row in rows] == ["filled", "in churn", "after churn"]
    assert [row.problem for row in rows] == [""] * 3
    filled, _, after = rows
    assert after.median("amplification") == pytest.approx(filled.median("amplification"), rel=0.1)
    assert (after.facts["expired"] > filled.facts["expired"]) is scenario.expiries
    if not scenario.mixed:
        assert after.facts["entries"] == filled.facts["entries"]


def test_a_wrong_value_in_the_churn_is_found(name):
    with shmmap.ShmMap.create(name, size="2MB", ephemeral=True) as m:
        churned = churn.Churned(50, churn.Sizes(50, False))
        churned.churn(m, 50, False)
        assert churn.look(m, churned)[1] == ""
        key = next(iter(m))
        m[key] = b"another"
        assert "wrong value" in churn.look(m, churned)[1]
        m.unlink()


def test_the_command_shows_all_of_a_cache():
    names = [scenario.name for scenario in select_cache()]
    assert len(set(names)) == len(names)
    assert {f"hit-{trace.name}" for trace in TRACES} <= set(names)
    for part in BESIDE_CACHE:
        assert any(part in name for name in names)
    assert "get-hot" not in names
    assert [s.name for s in select_cache("zipf-0.9")] == ["hit-zipf-0.9", "hit-zipf-0.99"]
    quickly = [scenario.name for scenario in select_cache(quick=True)]
    assert set(quickly) < set(names) and "memory-curve" in quickly and "hit-loop" in quickly
    assert set(names) <= {scenario.name for scenario in select()}


def test_the_overview_has_a_line_for_each_trace():
    trace = Trace("tiny", "a loop", lambda entries, requests, generator: generator.permutation(300))
    found = kept(setup_of(TINY, [peers.ShmMapPeer]), hit_ratios.HitRatio(trace))
    assert found["failures"] == {}
    table = hit_ratio_table.overview(found)
    assert table is not None
    assert table.rows == [["tiny", "200", *["0.0"] * (len(table.heads) - 3), "+0.0"]]
    assert table.text() in report(found)
    assert hit_ratio_table.overview({"rows": []}) is None


def test_hit_ratios_have_targets():
    judged = {target.metric for target in targets.TARGETS if target.scenario.startswith("hit-")}
    for trace in TRACES:
        assert f"hit-{trace.name}/shmmap@entries=1000 over_lru" in judged


def test_a_near_cache_beside_stores():
    tiny = TINY._replace(keys=300, hot_batch=64, batches=2, repetitions=1, read_shares=(0.9,),
                         load_repetitions=1, load_seconds=0.05)
    get, load = near.SCENARIOS
    found = kept(setup_of(tiny, [peers.Dict, peers.ShmMapPeer], tiny.processes), get, load)
    assert found["failures"] == {}
    rows = [row for row in found["rows"] if row["scenario"] == get.name]
    names = {"dict", "shmmap", *(peer.name for peer in near.NEAR)}
    assert {row["peer"] for row in rows} == names
    assert [row["problem"] for row in found["rows"] if row["problem"]] == []
    for peer in near.NEAR:
        assert f"{get.name}/shmmap:{peer.name} ns" in found["metrics"]


def test_one_of_a_crowd_computes(monkeypatch):
    monkeypatch.setattr(stampede, "PROCESSES", 2)
    kinds = [peers.ShmMapPeer, *(p for p in (peers.Redis, peers.DiskCache) if not p.missing())]
    found = kept(setup_of(TINY, kinds), *stampede.SCENARIOS)
    assert found["failures"] == {}
    calls = {row["peer"]: row["samples"]["calls"] for row in found["rows"]}
    assert set(calls["shmmap"]) == {1} and set(calls["cachetools.cached"]) == {2}
    assert min(calls["get, then set"]) > 1 and "diskcache.Cache" not in calls
    assert [row["problem"] for row in found["rows"] if row["problem"]] == []


def test_a_wrong_value_for_a_crowd_is_found(monkeypatch):
    wanting = stampede.Wanting.__new__(stampede.Wanting)
    wanting.turn, wanting.calls, wanting.get = 0, [], lambda key: "another"
    assert "is 'another'" in wanting.run(0).problem


def test_snapshots_under_writers():
    tiny = TINY._replace(listing=(300,), seconds=0.1, experiment_repetitions=1)
    found = kept(setup_of(tiny, [peers.ShmMapPeer]), *snapshots.SCENARIOS)
    assert found["failures"] == {}
    rows = {row["peer"]: row for row in found["rows"]}
    assert rows["snapshot"]["problem"] == "" and rows["snapshot"]["facts"]["copies"] > 0
    assert rows["snapshot"]["samples"]["held_most_ns"][0] > 0
    assert "held_ns" not in rows["(nobody lists)"]["samples"]
