"""The bench runner: choosing, running, failing and being interrupted; memory and room."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import shmmap
from bench import peers
from bench.core import results, source_tree, targets, timing
from bench.core.peer import Peer, unique_name
from bench.core.results import Row
from bench.core.scenario import Plot, Setup
from bench.core.source_tree import CHECKOUT
from bench.core.workloads import FULL, QUICK, Workload, key_of, value_of
from bench.scenarios import memory, memory_by_size, select

from .runs import kept, measured, setup_of

TINY = QUICK._replace(
    keys=400, hot=8, batches=4, hot_batch=64, slow_batch=3, repetitions=2, memory_bytes=2 * 10**6,
    curve=(16, 500), curve_bytes=100_000, capacities=(1_000,), filled=((300, 1),),
)


class Says(NamedTuple):
    """A scenario that gives what it is told to, or raises it."""

    name: str
    gives: Any
    title: str = "made up"
    family: str = "Made up"
    quick: bool = True
    plots: tuple[Plot, ...] = ()

    def steps(self, setup: Setup) -> int:
        return 1

    def run(self, setup: Setup, progress: Any) -> list[Row]:
        if isinstance(self.gives, BaseException):
            raise self.gives
        return list(self.gives)


def said(*scenarios: Says) -> dict[str, Any]:
    return kept(setup_of(TINY, [peers.Dict, peers.ShmMapPeer]), *scenarios)


def rows_of(scenario: Any, chosen: Sequence[type[Peer]] = ()) -> list[Row]:
    return measured(scenario, setup_of(TINY, chosen))


def test_ratios_are_taken_within_a_repetition():
    assert timing.paired_ratio([4, 9, 1], [2, 3, 1]) == (2.0, 1.0, 3.0)
    assert timing.percentile(range(1, 1001), 0.99) == 990


def test_each_loop_has_bytecode_of_its_own():
    one, two = (timing.timed_loop("value = get(key)", {"get": {}.get}) for _ in range(2))
    assert one.__code__ is not two.__code__
    took, value = timing.timed_loop("value = get(key)", {"get": {"a": 7}.get})(["a"], None)
    assert took > 0 and value == 7
    assert timing.gather_loop("value = key * 2", {})([1, 2], None) == [2, 4]


def test_keys_values_and_orders():
    work = Workload(TINY)
    assert {len(key.encode()) for key in (*work.keys, *work.absent)} == {16}
    assert {len(value) for value in work.values.values()} == {100}
    assert len(set(work.values.values())) == TINY.keys
    assert work.order("insertion") == list(work.values)
    assert work.order("shuffled") == Workload(TINY).order("shuffled") != work.order("insertion")
    assert sorted(work.order("shuffled")) == work.keys
    assert not set(work.absent) & set(work.keys)
    assert [len(keys) for keys in work.split("hot")] == [64] * 4
    assert [len(keys) for keys in work.split("insertion", 3)] == [3] * 4
    assert value_of("k01", 8) == b"k01k01k0" and key_of(3, "absent") == "absent0000000003"
    assert (QUICK.keys, QUICK.hot, FULL.keys) == (100_000, 64, 100_000)


def test_verdicts_follow_the_figures():
    limit = targets.Target("a/b", "<=", 5.0)
    assert [limit.verdict(x) for x in (4.9, 5.0, 5.1, None)] == [
        "PASS", "PASS", "MISS", "not measured"
    ]
    assert targets.Target("a/b", ">=", 3.0).verdict(2.9) == "MISS"
    assert targets.Target("a/b", "<", 1.0).verdict(1.0) == "MISS"
    judged = targets.judge({"get-hot/shmmap:dict ns": 9.0}, "compiled", ["get-hot"])
    assert {row["metric"]: row["verdict"] for row in judged}["get-hot/shmmap:dict ns"] == "MISS"
    pure = targets.judge({"get-hot/shmmap ns": 2500.0}, "pure", ["get-hot"])
    assert [row["verdict"] for row in pure] == ["PASS"]


def test_every_target_belongs_to_a_scenario():
    names = [scenario.name for scenario in select()]
    assert len(names) == len(set(names))
    assert {target.scenario for target in targets.TARGETS} <= set(names)


def test_scenarios_are_chosen_by_parts_of_their_names():
    assert [s.name for s in select("filled-,memory-1040")] == ["memory-1040", "filled-64"]
    assert [s for s in select() if s.quick] == select(quick=True) != select()
    slow = next(s for s in select() if not s.quick)
    assert slow in select(slow.name, quick=True)  # who names it gets it
    assert select("no-such") == []


def test_peers_are_chosen_by_name():
    def chosen(wanted: str) -> list[str]:
        return [peer.name for peer in peers.named(peers.PEERS, wanted)]

    assert chosen("") == [peer.name for peer in peers.PEERS]
    assert chosen("dict") == ["(empty loop)", "dict", "shmmap"]  # its whole name
    assert chosen("TTL,mdb") == ["(empty loop)", "shmmap", "TTLCache+lock", "lmdb"]
    with pytest.raises(ValueError, match="no peer is called 'nobody'"):
        chosen("dict,nobody")


def test_figures_are_named_and_divided():
    rows = [
        Row.of("a", "shmmap", {"ns": [30.0, 40.0]}), Row.of("a", "dict", {"ns": [10.0, 10.0]}),
        Row.of("a", "liar", {"ns": [1.0, 1.0]}, "wrong"),
        Row.of("b", "shmmap", {"per_s": [8.0]}, point={"processes": 2}),
        Row.of("b", "lmdb", {"per_s": [2.0]}, point={"processes": 2}),
        Row.of("b", "lmdb", {"per_s": [1.0]}, point={"processes": 1}),
    ]
    assert results.metrics(rows) == {
        "a/shmmap ns": 35.0, "a/dict ns": 10.0, "a/shmmap:dict ns": 3.5,
        "a/dict:shmmap ns": pytest.approx((1 / 3 + 1 / 4) / 2),
        "b/shmmap@processes=2 per_s": 8.0, "b/lmdb@processes=2 per_s": 2.0,
        "b/lmdb@processes=1 per_s": 1.0, "b/shmmap:lmdb@processes=2 per_s": 4.0,
        "b/lmdb:shmmap@processes=2 per_s": 0.25,
    }


def test_a_scenario_that_fails_costs_no_other_its_figures():
    row = Row.of("good", "shmmap", {"ns": [1.0, 2.0, 4.0]})
    uneven = [Row.of("uneven", "shmmap", {"ns": [1.0]}), Row.of("uneven", "a", {"ns": [1.0, 2.0]})]
    found = said(Says("bad", OSError("no room")), Says("uneven", uneven), Says("good", [row]))
    assert found["failures"].keys() == {"bad", "uneven"}
    assert found["failures"]["bad"].startswith("OSError: no room (test_run.py:")
    assert found["metrics"]["good/shmmap ns"] == 2.0
    assert [Row(**each) for each in found["rows"]] == [*uneven, row]
    assert len(results.problems(found)) == 2 and not found["interrupted"]


def test_what_was_measured_before_ctrl_c_is_kept():
    row = Row.of("first", "shmmap", {"ns": [1.0]})
    found = said(
        Says("first", [row]), Says("second", KeyboardInterrupt()), Says("third", OSError("never"))
    )
    assert found["interrupted"] and found["failures"] == {}
    assert [each["scenario"] for each in found["rows"]] == ["first"]
    assert found["metrics"] == {"first/shmmap ns": 1.0}


def test_a_map_that_ctrl_c_left_is_removed():
    m = shmmap.ShmMap.create(unique_name(), size="1MB")  # and nobody comes to unlink it
    said(Says("interrupted", KeyboardInterrupt()))
    m.close()
    assert not [entry for entry in os.listdir("/dev/shm") if m.name in entry]


def test_wrong_answers_are_problems():
    found = said(Says("a", [Row.of("a", "shmmap", {}, "lost 3", {"processes": 2})]))
    assert results.problems(found) == ["a, shmmap@processes=2: lost 3"]


def test_the_checkout_goes_last_on_the_path(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(CHECKOUT), "/elsewhere", str(CHECKOUT) + "/"])
    source_tree.prefer_installed()
    assert sys.path == ["/elsewhere", str(CHECKOUT)]


def test_full_caches():
    (scenario,) = (s for s in memory.SCENARIOS if s.name == "memory-64")
    (row,) = rows_of(scenario)
    assert row.problem == "" and 1 < row.median("amplification") < 3
    assert row.facts["evicted"] > 0 and row.facts["written"] >= 2 * row.facts["entries"]


def test_a_wrong_value_in_a_full_cache_is_found(name):
    with shmmap.ShmMap.create(name, size="2MB", ephemeral=True) as m:
        m[key_of(0)] = memory.Sizes(50, False).value(0)
        assert memory.look(m, memory.Sizes(50, False))[1] == ""
        m[key_of(1)] = b"?" * 50
        assert "wrong value of 50 bytes" in memory.look(m, memory.Sizes(50, False))[1]
        m.unlink()


def test_capacity_is_planned_and_kept():
    found = {name: rows_of(s) for s in select("headroom,filled") for name in [s.name]}
    assert [row.point["shards"] for row in found["headroom"]] == ["default", 64]
    assert all(row.median("slots") > 1 for row in found["headroom"])
    for name in ("filled", "filled-64"):
        (row,) = found[name]
        assert (row.problem, row.samples, row.point) == ("", {"refused": [0]}, {"entries": 300})


def test_memory_by_the_size_of_entries():
    kinds = [peer for peer in peers.present_peers()[0] if peer.name in memory_by_size.HELD]
    rows = rows_of(memory_by_size.SCENARIOS[0], kinds)
    assert [row.problem for row in rows] == [""] * 2 * len(kinds)
    assert [row.peer for row in rows] == [kind.name for kind in kinds] * 2
    for row in rows:
        assert 1 < row.median("amplification") < 100, row
        assert row.facts["entries"] == 100_000 // row.point["payload_bytes"]
        assert row.facts["held_bytes"] == pytest.approx(
            row.median("amplification") * row.facts["entries"] * row.point["payload_bytes"]
        )


def test_a_store_that_looks_small_because_it_drops_entries_is_found():
    class Dropping(peers.Dict):
        def fill(self, entries):
            super().fill(dict(list(entries.items())[::2]))

    row, *_ = rows_of(memory_by_size.SCENARIOS[0], [Dropping])
    assert row.problem.endswith("gave 'None'")


def bench(*arguments: str, wanted: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command line in the checkout, with the map that is under test."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments], cwd=CHECKOUT, capture_output=True, text=True,
        timeout=60, env=environment(),
    )
    assert done.returncode == wanted, done.stderr
    return done


def environment() -> dict[str, str]:
    site = str(Path(shmmap.__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": site, "SHMMAP_ENGINE": shmmap.ENGINE}


def test_command_line_measures_the_installed_map_from_the_checkout(tmp_path):
    out, html = tmp_path / "out.json", tmp_path / "out.html"
    done = bench("quick", "--only", "headroom", "--json", str(out), "--html", str(html))
    site = environment()["PYTHONPATH"]
    assert f"{shmmap.ENGINE} engine, {site}" in done.stdout
    written = json.loads(out.read_text())
    assert written["engine"]["engine"] == shmmap.ENGINE and written["format"] == results.FORMAT
    assert site not in json.dumps(written["engine"]) and "<h3 id='headroom'>" in html.read_text()
    again = bench("report", str(out), "--html", str(html))
    assert "headroom" in again.stdout
    assert "0 slower" in bench("compare", str(out), str(out)).stdout
    assert "filled-64" in bench("--list").stdout


@pytest.mark.parametrize(("arguments", "message"), [
    (["--quick", "--only", "no-such"], "--list"),
    (["--quick", "--full"], "say what to run"),
    (["--quick", "--peers", "nobody"], "no peer is called 'nobody'"),
    (["--quick", "--processes", "1,0"], "--processes"),
    (["--quick", "--json", "/no/such/directory/out.json"], "no directory"),
    ([], "say what to run"),
])
def test_command_line_refuses_what_it_cannot_do(arguments, message):
    assert message in bench(*arguments, wanted=2).stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_its_figures_and_leaves_nothing(tmp_path, number):
    out = tmp_path / "out.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", "--quick", "--only", "headroom,filled", "--json", str(out)],
        cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )
    try:
        seen = ""
        while "filled" not in seen:  # the label of what runs: headroom is done
            character = process.stderr.read(1)
            assert character, seen
            seen += character
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, said
    assert "Interrupted. Not measured: filled, filled-64" in said
    written = json.loads(out.read_text())
    assert written["interrupted"] and {row["scenario"] for row in written["rows"]} == {"headroom"}
    assert not [entry for entry in os.listdir("/dev/shm") if f"bench-{process.pid}-" in entry]
