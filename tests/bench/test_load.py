"""Load of several processes: its figures, its plans, and that no broken store looks fast."""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter
from typing import Any

import pytest

from bench.core.results import Row, metrics
from bench.core.timing import percentile
from bench.core.workloads import FULL, Scale, Workload
from bench.load import operation_mix, peer_under_load
from bench.load.histogram import Histogram, bucket_of, last_of
from bench.load.operation_mix import EVERY, Mix, Plan, Round
from bench.load.signed_values import FILLED, Counters, Ledger, SignedBytes, SignedObjects, Tally
from bench.load.worker_pool import WorkerError
from bench.peers import Dict, Lmdb, ShmMapPeer, Sqlite, present_peers
from bench.scenarios import load, two_readers
from bench.scenarios.families import SEVERAL_PROCESSES

from ..support.engines import once
from . import broken_peers
from .runs import Interrupting, measured, setup_of

pytestmark = once  # the same with either engine

TINY = Scale(
    keys=300, hot=8, batches=4, hot_batch=64, slow_batch=3, processes=(2,), load_seconds=0.04,
    load_repetitions=1, read_shares=(0.5,), reader_repetitions=2, sizes=(8, 200_000), many=(3,),
)
SCENARIOS = {each.name: each for each in (*load.SCENARIOS, *two_readers.SCENARIOS)}
KEYS = [f"k{n}" for n in range(1_000)]


def measure(name: str, *kinds: Any, progress: Any = None) -> list[Row]:
    return measured(SCENARIOS[name], setup_of(TINY, kinds, TINY.processes), progress)


def plan_of(mix: Mix, **given: Any) -> Plan:
    given = {"writer": 1, "numbers": itertools.count(), **given}
    return Plan.of(mix, KEYS, SignedBytes(16), given.pop("writer"), given.pop("numbers"), **given)


def steps_of(plan: Plan) -> list[tuple[Any, Any]]:
    return [step for _, key, value, rest in plan.groups for step in ((key, value), *rest)]


def test_histogram_is_right_to_a_64th_and_adds_up():
    source = random.Random(1)
    spans = [int(source.lognormvariate(8, 2)) for _ in range(20_000)]
    parts = [Histogram(spans[n::3]) for n in range(3)]
    whole = Histogram()
    for part in parts:
        whole.add(part)
    assert whole.count == 20_000 and whole.most == max(spans)
    assert whole.buckets == Histogram(spans).buckets
    for share in (0.001, 0.5, 0.99, 0.999, 1.0):
        exact = percentile(spans, share)
        assert exact <= whole.within(share) <= exact * (1 + 1 / 64) + 1, share
    with pytest.raises(ValueError):
        Histogram().within(0.5)


def test_buckets_follow_each_other_without_a_gap():
    assert [bucket_of(n) for n in range(128)] == list(range(128))
    for bucket in range(2_000):
        assert bucket_of(last_of(bucket)) == bucket
        assert bucket_of(last_of(bucket) + 1) == bucket + 1


@pytest.mark.parametrize("share", FULL.read_shares)
def test_a_plan_has_exactly_its_share_of_reads(share):
    plan = plan_of(Mix(share), operations=8_000)
    steps = steps_of(plan)
    assert len(steps) == 8_000 and len(plan.groups) == 500
    assert sum(value is None for _, value in steps) == round(8_000 * share)
    singles = [value for _, _, value, _ in plan.groups]
    assert sum(value is None for value in singles) / 500 == pytest.approx(share, abs=0.08)


def test_a_plan_is_the_same_for_all_peers_and_another_for_each_worker():
    singly = steps_of(plan_of(Mix(0.5), every=1, operations=1_000))
    assert singly == steps_of(plan_of(Mix(0.5), operations=1_000)) != []
    assert singly != steps_of(plan_of(Mix(0.5), writer=2, operations=1_000))
    numbers = itertools.count()
    first, second = (plan_of(Mix(0.5), numbers=numbers, operations=160) for _ in range(2))
    assert not {value for _, value in steps_of(first) if value} & {
        value for _, value in steps_of(second) if value
    }


def test_zipf_has_its_shape():
    drawn = Counter(operation_mix.draw(Mix(skew=0.99), 1_000, 200_000, random.Random(5)))
    whole = sum(rank**-0.99 for rank in range(1, 1_001))
    ranked = [times for _, times in drawn.most_common()]
    for rank in (1, 2, 3, 10):
        assert ranked[rank - 1] / 200_000 == pytest.approx(rank**-0.99 / whole, rel=0.1)
    tenth = sum(rank**-0.99 for rank in range(1, 101)) / whole
    assert sum(ranked[:100]) / 200_000 == pytest.approx(tenth, rel=0.03)
    other = Counter(operation_mix.draw(Mix(skew=0.99), 1_000, 200_000, random.Random(6)))
    hottest = [entry for entry, _ in drawn.most_common(3)]
    assert hottest == [entry for entry, _ in other.most_common(3)]
    assert hottest != sorted(hottest) or max(hottest) > 10
    even = Counter(operation_mix.draw(Mix(), 1_000, 200_000, random.Random(5)))
    assert len(even) == 1_000 and max(even.values()) < 300


def test_a_round_knows_what_was_written_on_the_way():
    plan = plan_of(Mix(0.3), operations=320)
    turn, seen = Round(plan), 0
    order = list(itertools.chain.from_iterable([plan.wrote] * 5))
    for done in (1, 7, 12, 20, 45):
        expected = dict(itertools.chain(*order[seen : seen + done]))
        assert turn.passed(done) == expected != {}
        seen += done


def test_the_loop_does_the_plan_in_order_and_stops_in_time():
    plan = plan_of(Mix(0.5), operations=320)
    store = dict.fromkeys(KEYS, b"")
    loop = operation_mix.mixed_loop("value = get(key)", "data[key] = value",
                             {"get": store.get, "data": store})
    spans: list[int] = []
    answers: list[Any] = []
    assert loop(iter(plan.groups), 1 << 63, spans.append, answers.append) == len(plan.groups)
    expected = dict.fromkeys(KEYS, b"")
    expected.update({key: value for key, value in steps_of(plan) if value is not None})
    assert store == expected
    assert len(spans) == 320 // EVERY and min(spans) > 0
    reads = [entry for entry, _, value, _ in plan.groups if value is None]
    assert [entry for entry, _ in answers] == reads != []
    assert loop(iter(plan.groups), 0, spans.append, answers.append) == 1


@pytest.mark.parametrize("content", [SignedBytes(8), SignedBytes(100), SignedObjects()])
def test_a_value_tells_who_wrote_it(content):
    value = content.make(70_000, 64, 1 << 19)
    assert content.origin(value, 70_000) == (64, 1 << 19)
    assert content.origin(value, 70_001) is None
    assert content.origin(None, 70_000) is None
    assert content.wrong([(70_000, value)]) == ""
    assert "missing" in content.wrong([(70_000, value), (70_000, None)])
    other = content.make(70_000, 63, 5)
    torn = {**value, "seen": other["seen"]} if isinstance(value, dict) else value[:4] + other[4:]
    assert content.origin(torn, 70_000) is None
    assert "torn or foreign" in content.wrong([(70_000, torn)])
    if isinstance(value, bytes):
        assert len(value) == content.length
        assert content.origin(value[:-1], 70_000) is content.origin(7, 70_000) is None


def test_the_ledger_finds_a_write_that_got_lost():
    content = SignedBytes(24)
    store = {entry: content.make(entry, *FILLED) for entry in range(4)}
    ledger = Ledger(content, lambda entries: [store.get(entry) for entry in entries])
    assert ledger.look([0, 1, 2, 3]) == ""
    ledger.note(1, {0: 5, 1: 6}, 9)
    ledger.note(2, {1: 3}, 9)
    assert ledger.check(9) == "key 0: a write of worker 0 is there, and not its last"
    store.update({0: content.make(0, 1, 5), 1: content.make(1, 2, 3)})
    for writer in (1, 2):
        ledger.note(writer, {1: 7 - writer}, 9)
    assert ledger.check(9) == "key 1: a write of worker 2 is there, and not its last"
    ledger.note(1, {1: 6}, 9)
    store[1] = content.make(1, 1, 6)
    assert ledger.check(9) == ""
    ledger.note(1, {2: 8}, 9)
    del store[2]
    assert "missing" in ledger.check(9)
    assert "after filling" in ledger.look([2])


def test_the_tally_finds_lost_increments():
    counts = itertools.count(1)
    tally = Tally(lambda entries: [next(counts) for _ in entries])
    assert tally.look([0, 5, 9]) == tally.check(9) == ""
    tally.note(1, {}, 10)
    assert tally.check(9).endswith("said 5, 10 lost")
    assert Counters().wrong([(0, 1), (0, 4), (0, 5)]) == ""
    assert "gave 4 after 4" in Counters().wrong([(0, 4), (0, 4)])


def test_a_tail_is_told_only_if_something_lies_in_it():
    def told(count: int) -> set[str]:
        stretch = peer_under_load.Stretch(1.0, Histogram(range(count)), 0.5, 0)
        return set(peer_under_load.figures([stretch, stretch], 2))

    always = {"per_s", "most_ns", "fairness"}
    assert told(5) == always
    assert told(299) == {*always, "p50_ns"}
    assert told(301) == {*always, "p50_ns", "p99_ns"}
    assert told(3_001) == {*always, "p50_ns", "p99_ns", "p999_ns"}


@pytest.mark.parametrize("name", ["load-reads", "load-sizes", "load-counter", "load-crowd"])
def test_sound_peers_have_figures(name):
    kinds = [ShmMapPeer, Lmdb]
    rows = measure(name, *kinds)
    points = 2 if name == "load-sizes" else 1
    assert [row.peer for row in rows] == ["shmmap", "lmdb"] * points
    for row in rows:
        assert row.problem == "", row
        assert row.median("per_s") > 1 and 0 < row.median("fairness") <= 1
        assert len(row.samples["per_s"]) == TINY.load_repetitions
        assert row.facts["verified"] > 0 and row.point
    assert f"{name}/lmdb:{rows[0].label()} per_s" in metrics(rows)


def test_objects_and_the_control_without_a_shared_store():
    (row,) = measure("load-objects", Sqlite)
    assert row.problem == "" and row.label() == "sqlite"
    (row,) = measure("load-processes", Dict)
    assert row.problem == "" and row.label() == "dict@processes=2"
    assert measure("load-reads", Dict) == []


@pytest.mark.parametrize(("name", "broken", "problem"), [
    ("load-counter", broken_peers.LosesUpdates, "lost"),
    ("load-reads", broken_peers.Tears, "torn or foreign"),
    ("load-reads", broken_peers.KeepsOld, "not its last"),
    ("load-reads", broken_peers.AnswersNothing, "missing"),
    ("load-reads", broken_peers.Dies, "worker 0 died"),
    ("load-reads", broken_peers.Refuses, "OSError: the disk is full"),
    ("load-reads", broken_peers.WillNotOpen, "ConnectionRefusedError: one client is enough"),
    ("load-reads", broken_peers.HoldsNothing, "ValueError: a value of 100 bytes is too large"),
])
def test_a_broken_peer_is_found_and_the_others_go_on(name, broken, problem):
    wrong, sound = measure(name, broken, ShmMapPeer)
    assert problem in wrong.problem and wrong.peer == broken.name
    assert sound.problem == "" and sound.median("per_s") > 100
    assert {metric.partition("/")[2].partition("@")[0] for metric in metrics([wrong, sound])} == {
        "shmmap"
    }


def test_readers_read_alone_and_together():
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    rows = measure("readers-hot", Dict, ShmMapPeer, Lmdb)
    assert [row.peer for row in rows] == ["dict", "shmmap", "lmdb"]
    for row in rows:
        assert row.problem == "" and len(row.samples["gain"]) == 2
        assert row.median("gain") > 0
    assert "readers-hot/shmmap gain" in metrics(rows)


def test_a_reader_that_gets_wrong_answers_is_reported():
    core = min(os.sched_getaffinity(0))
    lane = two_readers.ReaderLane(
        SCENARIOS["readers-hot"], broken_peers.AnswersNothing, Workload(TINY), [core, core]
    )
    try:
        lane.repeat(0)
    finally:
        lane.close()
    assert "ended with None" in lane.row().problem


def test_a_reader_that_dies_is_reported():
    core = min(os.sched_getaffinity(0))
    lane = two_readers.ReaderLane(
        SCENARIOS["readers-hot"], ShmMapPeer, Workload(TINY), [core, core]
    )
    try:
        lane.pool.processes[0].kill()
        lane.pool.processes[0].join(10)
        with pytest.raises(WorkerError, match="worker 0 died"):
            lane.repeat(0)
    finally:
        lane.close()


def test_ctrl_c_leaves_nothing():
    with pytest.raises(KeyboardInterrupt):
        measure("load-reads", ShmMapPeer, Lmdb, progress=Interrupting())


def test_every_scenario_is_listed_with_its_pictures():
    setup = setup_of(TINY, present_peers()[0], TINY.processes)
    for scenario in SCENARIOS.values():
        assert scenario.family == SEVERAL_PROCESSES and scenario.plots and scenario.title
        if isinstance(scenario, load.Load):
            points = {name for stage in scenario.stages(setup) for at in stage.points
                      for name in at.point}
            assert {plot.x for plot in scenario.plots} == (points or {""})
