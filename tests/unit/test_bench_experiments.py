"""The experiments of the bench: their logic, and a tiny run of each."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import threading
import time
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import shmmap

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # at the end: the shmmap under test stays the one imported above

from bench import experiments  # noqa: E402
from bench.crew import Crew, CrewError  # noqa: E402
from bench.experiments import (  # noqa: E402
    boxed,
    cleanup,
    counters,
    designs,
    evenness,
    listing,
    lockedreads,
    shards,
    traffic,
)
from bench.experiments.copyonwrite import CopyOnWrite, CopyOpener  # noqa: E402
from bench.results import OURS, UNITS, Row  # noqa: E402
from bench.run import Setup  # noqa: E402
from bench.workloads import QUICK, Workload, key_of, value_of  # noqa: E402

TINY = QUICK._replace(
    keys=100, hot=8, batches=4, seconds=0.05, shards=(1, 4), listing=(300,), cleanup_entries=3_000,
    experiment_seconds=0.05, experiment_repetitions=2, write_shares=(0.0, 50.0),
    evenness_keys=3_000, evenness_seeds=3, churn_writes=5, boxed_entries=500,
)
compiled_only = pytest.mark.skipif(shmmap.ENGINE != "compiled", reason="a build of the engine")


class Steps:
    """Stands in for a progress bar, and counts."""

    done = 0

    def step(self) -> None:
        self.done += 1


@pytest.fixture(autouse=True)
def nothing_left():
    """No experiment leaves shared memory, a temporary directory or a process."""
    temporary = set(os.listdir(tempfile.gettempdir()))
    yield
    assert [e for e in os.listdir("/dev/shm") if f"bench-{os.getpid()}-" in e] == []
    left = set(os.listdir(tempfile.gettempdir())) - temporary
    assert [entry for entry in left if entry.startswith("shmmap-bench-build-")] == []
    assert multiprocessing.active_children() == []


def rows_of(scenario: Any, scale: Any = TINY, processes: tuple[int, ...] = (1, 2)) -> list[Row]:
    setup, steps = Setup(Workload(scale), [], processes), Steps()
    rows = scenario.run(setup, steps)
    assert steps.done == scenario.steps(setup)
    assert [row.problem for row in rows if row.problem] == []
    assert {row.scenario for row in rows} == {scenario.name}
    for plot in scenario.plots:
        assert plot.y in UNITS and all(plot.x in row.point for row in rows)
    return rows


# -- traffic --------------------------------------------------------------------------


def users(share: float, opener: Any = None, workers: int = 2, entries: int = 200) -> traffic.Users:
    return traffic.Users((opener,) if opener else (), entries, (share,), workers, traffic.Dial())


@pytest.mark.parametrize("share", [0.0, 0.1, 13.5, 100.0])
def test_a_plan_has_exactly_its_share_of_writes(share):
    chunks = traffic.plan(users(share), 0, share)
    operations = [each for chunk in chunks for each in (chunk.first, *chunk.rest)]
    writes = [(key, value) for key, value in operations if value is not None]
    assert len(operations) == 2 * traffic.PLAN
    assert len(writes) == 2 * round(traffic.PLAN * share / 100) == sum(c.writes for c in chunks)
    assert all(value.startswith(key.encode()) for key, value in writes)


def test_two_workers_never_write_the_same_key():
    keys = [
        {key for chunk in traffic.plan(users(100.0), index, 100.0)
         for key, _ in (chunk.first, *chunk.rest)}
        for index in range(2)
    ]
    assert keys[0] and keys[1] and not keys[0] & keys[1]


class DictOpener(NamedTuple):
    """Opens a dict that drops every n-th write, or gives another key's value for every read."""

    drops: int = 0
    wrong: bool = False

    def open(self) -> traffic.Store:
        data = {key_of(n): value_of(key_of(n)) for n in range(200)}
        writes: list[str] = []

        def put(key: str, value: bytes) -> None:
            writes.append(key)
            if not self.drops or len(writes) % self.drops:
                data[key] = value

        reads: list[str] = []

        def get(key: str) -> bytes:
            reads.append(key)
            return data["k" + "0" * 15 if self.wrong and len(reads) > 200 else key]

        return traffic.Store(get, put, (0,), 0, lambda: None)


def stretch_of(opener: DictOpener, share: float) -> traffic.Stretch:
    job = users(share, opener, workers=1)
    return job.begin(0).run(time.monotonic_ns() + 30_000_000)


def test_lost_writes_and_wrong_reads_are_found():
    sound = stretch_of(DictOpener(), 50.0)
    assert sound.problem == "" and sound.operations > 100 and sound.writes > 0
    assert len(sound.times) * traffic.CHUNK == sound.operations
    assert "was written" in stretch_of(DictOpener(drops=10), 50.0).problem
    assert "gave" in stretch_of(DictOpener(wrong=True), 0.0).problem


# -- designs ----------------------------------------------------------------------------


def test_copy_on_write_keeps_every_write_of_two_writers():
    lock = multiprocessing.get_context("spawn").Lock()
    name = f"bench-{os.getpid()}-cow"
    entries = {key_of(n): value_of(key_of(n)) for n in range(50)}
    made = CopyOnWrite.create(name, lock, entries)
    try:
        job = traffic.Users((CopyOpener(name, lock),), 50, (100.0,), 2, traffic.Dial())
        crew = Crew(job, 2)
        try:
            answers = crew.run(0.2)
        finally:
            crew.close()
        assert [answer.problem for answer in answers] == ["", ""]
        assert made.words[0] == 1 + sum(answer.writes for answer in answers)
        assert all(made.get(key).startswith(key.encode()) for key in entries)
        assert made.get(key_of(0)) != entries[key_of(0)] and made.get("absent") is None
        assert len(list(Path("/dev/shm").glob(f"{name}.*"))) == 1
    finally:
        made.remove()


def test_copy_on_write_loses_writes_without_its_lock():
    class Open:
        def __enter__(self) -> None: ...
        def __exit__(self, *exception: object) -> None: ...

    name = f"bench-{os.getpid()}-cow"
    made = CopyOnWrite.create(name, Open(), {"a": b"", "b": b""})
    other = CopyOnWrite(name, Open())
    try:
        other.get("a")
        real, other._refresh = other._refresh, lambda: None  # it has looked before we write
        made.put("a", b"1")
        other.put("b", b"2")
        other._refresh = real
        assert made.get("b") == b"" or made.get("a") == b""  # hence the lock around both
    finally:
        other.close()
        made.remove()


def test_texts_are_replaced_exactly_once():
    source = (Path(shmmap.__file__).parent / f"{lockedreads.MODULE}.py").read_text()
    changed = lockedreads.replaced(source)
    assert "range(0)" in changed and changed.count("self.try_fetch(") == 1
    with pytest.raises(ValueError, match="0 times, not once"):
        lockedreads.replaced(changed)


@compiled_only
def test_the_build_really_locks_its_reads(tmp_path):
    build = lockedreads.locked_reads()
    if build.problem:
        pytest.skip(build.problem)
    file = tmp_path / build.file
    file.write_bytes(build.content)
    name = f"bench-{os.getpid()}-locked"
    m = traffic.filled_map(name, 200, 1)
    try:
        for opener, locked in (
            (traffic.MapOpener(name), False), (lockedreads.LockedOpener(name, str(file)), True)
        ):
            before = m.stats()
            crew = Crew(traffic.Users((opener,), 200, (0.0,), 1, traffic.Dial()), 1)
            try:
                (answer,) = crew.run(0.05)
            finally:
                crew.close()
            after = m.stats()
            reads = after.hits - before.hits
            assert answer.problem == "" and reads == 200 + answer.operations
            assert after.locked_reads - before.locked_reads == (reads if locked else 0)
        # And they wait for it: with the lock held, no read of the changed build gets through.
        with pytest.raises(CrewError), listing.all_locks(m):
            Crew(users(0.0, lockedreads.LockedOpener(name, str(file)), 1), 1)
    finally:
        traffic.remove(m)


@compiled_only
def test_designs_with_the_build():
    if lockedreads.locked_reads().problem:
        pytest.skip(lockedreads.locked_reads().problem)
    rows = rows_of(designs.DESIGNS[0]._replace(entries=200), TINY._replace(builds=True))
    names = {OURS, designs.ONE_LOCK, designs.LOCKED, designs.COPIED}
    points = {(row.peer, row.point["write_share"]) for row in rows}
    assert points == set(product(names, (0.0, 50.0)))
    assert not any("skipped" in row.facts for row in rows)


def test_designs_without_a_build(monkeypatch):
    rows = rows_of(designs.DESIGNS[0]._replace(entries=200))
    assert {row.peer for row in rows} == {OURS, designs.COPIED}
    assert all(len(row.samples["per_s"]) == 2 for row in rows)
    monkeypatch.setattr(designs, "locked_reads", lambda: lockedreads.Build("", b"", "no gcc"))
    rows = rows_of(designs.DESIGNS[0]._replace(entries=200), TINY._replace(builds=True))
    assert {row.peer for row in rows} == {OURS, designs.COPIED}
    assert {row.facts["skipped"] for row in rows} == {"no gcc"}


def test_where_a_design_breaks():
    def row(peer: str, share: float, rate: float) -> Row:
        return Row.of("d", peer, {"per_s": [rate]}, point={"write_share": share})

    rows = [row(OURS, share, 100.0) for share in (0.0, 1.0, 50.0)]
    rows += [row("slow", 50.0, 10.0), row("slow", 1.0, 49.0), row("slow", 0.0, 51.0)]
    assert designs.breaks(rows) == {OURS: {}, "slow": {"breaks_at": 1.0}}


# -- shards, listing ----------------------------------------------------------------------


def test_shards():
    rows = rows_of(shards.SHARDS._replace(name="tried"))
    points = {(row.peer, row.point["shards"]) for row in rows}
    assert points == set(product(("1 process", "2 processes"), (1, 4)))
    for row in rows:
        assert all(rate > 0 for rate in row.samples["per_s"])
        assert all(0 <= share < 1 for share in row.samples["share"])
        if row.peer == "1 process":
            assert row.samples["share"] == [0.0, 0.0] and "wait_p99_ns" not in row.samples
    one, four = (next(r for r in rows if r.point["shards"] == n) for n in (1, 4))
    assert 0 < one.median("metadata_bytes") < four.median("metadata_bytes")


def test_contention_is_counted_and_timed(name):
    m = traffic.filled_map(name, 200, 1)
    try:
        crew = Crew(Late(name), 1)
        try:
            (answer,) = crew.run(0.1)
        finally:
            crew.close()
        assert answer.waits == 1 and len(answer.waited) == 1 and answer.waited[0] > 10_000_000
    finally:
        traffic.remove(m)


class Late(NamedTuple):
    """A job: a thread holds every lock for a while as the worker begins to write."""

    name: str

    def begin(self, index: int) -> Any:
        return LateUser(users(100.0, traffic.MapOpener(self.name), workers=1), 0)


class LateUser(traffic.User):
    def run(self, until_ns: int) -> traffic.Stretch:
        with shmmap.ShmMap.attach(self.job.openers[0].name) as m:
            held = threading.Event()

            def hold() -> None:
                with listing.all_locks(m):
                    held.set()
                    time.sleep(0.03)

            thread = threading.Thread(target=hold)
            thread.start()
            held.wait()
            answer = super().run(until_ns)
            thread.join()
            return answer


def test_listing():
    rows = {row.peer: row for row in rows_of(listing.LISTING)}
    assert set(rows) >= {OURS, listing.ALL_LOCKS, listing.ONE_LOCK, listing.NOBODY}
    for way, row in rows.items():
        assert all(pause > 0 for pause in row.samples["pause_ns"])
        if way != listing.NOBODY:
            assert row.facts["listings"] >= 2 and len(row.samples["p99_ns"]) == 2
    for way in (listing.ALL_LOCKS, listing.ONE_LOCK):
        assert rows[way].samples["torn"] == [0.0, 0.0]


def test_what_no_listing_may_show_is_found(name):
    m = shmmap.ShmMap.create(name, size="1MB", ephemeral=True)
    m.set_many((key_of(n), listing.stamp(0)) for n in range(10))
    lister = listing.Pair(name, 10, OURS).begin(listing.LISTER)
    try:
        sound = dict(m.items())
        assert lister.wrong(sound) == ""
        assert "9 of 10" in lister.wrong(dict(list(sound.items())[1:]))
        assert "nobody wrote" in lister.wrong({**sound, key_of(3): b"0" * 16})
        torn = [listing.stamp(n) for n in (2, 1, 2)]
        assert not listing.of_one_moment(torn)
        assert listing.of_one_moment([listing.stamp(n) for n in (2, 2, 1)])
        assert not listing.of_one_moment([listing.stamp(n) for n in (2, 2, 0)])
    finally:
        lister.close()
        traffic.remove(m)


# -- evenness ---------------------------------------------------------------------------------


def test_evenness_of_our_hash():
    pytest.importorskip("scipy")
    rows = rows_of(evenness.EVENNESS)
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
    steps, setup = Steps(), Setup(Workload(TINY), [], (1,))
    rows = evenness.EVENNESS._replace(hashed=bad).run(setup, steps)
    wrong = {row.peer for row in rows if row.problem}
    assert {"sequential", "one bit", "prefix of 1 kB", "URL-like"} <= wrong


def test_a_hash_that_is_too_even_is_found():
    pytest.importorskip("scipy")
    seen: list[int] = []

    def in_turn(data: bytes, kind: int, seed: int) -> int:
        seen.append(0)
        return (len(seen) % 128) << 57

    rows = evenness.EVENNESS._replace(hashed=in_turn).run(
        Setup(Workload(TINY), [], (1,)), Steps()
    )
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
    rows = rows_of(cleanup.CLEANUP)
    assert [row.point["expired"] for row in rows] == list(cleanup.SHARES)
    for row in rows:
        assert row.facts["holds"] >= row.facts["shards"]
        assert all(p99 <= most for p99, most in zip(
            row.samples["p99_ns"], row.samples["most_ns"], strict=True))


def test_a_sweep_that_leaves_entries_is_found(make):
    m = make(capacity=500)
    cleanup.freeze(m)
    keys = [key_of(n) for n in range(300)]
    m.set_many(dict.fromkeys(keys, b"v"), ttl=cleanup.LONG_S)
    lane = cleanup.CleanupLane("tried", m, keys, b"v", 50.0)
    lane.repeat(0)
    assert lane.problem == "" and lane.sweeps[0][2] == 150
    m.touch = lambda key, ttl: None  # nothing expires
    lane.repeat(1)
    assert "0 of 150" in lane.problem


def test_churn():
    rows = rows_of(cleanup.CHURN._replace(minutes=3, every=1))
    assert [row.point["minute"] for row in rows] == [1, 2, 3, 5]
    assert all(row.median("count") > 100 for row in rows[:-1]) and rows[-1].median("count") == 0
    assert len({row.median("bytes") for row in rows}) == 1


def test_growth_is_found(make):
    m = make(capacity=500)
    clock = cleanup.freeze(m)
    before = m.stats()
    m.set("stays", b"v" * 300)
    cleanup.expire(m, clock)
    assert "entries: 0 before, 1 after" in cleanup.grown(before, m)
    del m["stays"]
    assert cleanup.grown(before, m) == ""


def test_boxed():
    rows = rows_of(boxed.BOXED)
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
    found = counters.counted(lambda: sum(range(300_000)))
    assert found == ({"cycles": 4e6, "cache-misses": 2000.0} if seen else {})


def test_without_counters_there_is_a_reason(monkeypatch, tmp_path):
    counters.why_not.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    try:
        assert "perf" in counters.why_not()
    finally:
        counters.why_not.cache_clear()


def test_names_are_unique_and_quick_ones_need_no_build():
    names = [scenario.name for scenario in experiments.SCENARIOS]
    assert len(set(names)) == len(names)
    quick = {scenario.name for scenario in experiments.SCENARIOS if scenario.quick}
    assert quick == {"shards", "designs-1000", "evenness"} and not QUICK.builds


