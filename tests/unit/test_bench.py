"""The bench runner's own logic, and one tiny run of all its scenarios."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import shmmap

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # at the end: the shmmap under test stays the one imported above

from bench import checkout, latency, peers, readers, report, run, targets, timing  # noqa: E402
from bench.workloads import QUICK, Scale, Workload, key_of, value_of  # noqa: E402

TINY = Scale(
    keys=400, hot=8, batches=4, hot_batch=64, slow_batch=3, repetitions=2, seconds=0.02,
    reader_repetitions=1, memory_bytes=2 * 10**6, capacities=(1_000,), filled=((300, 1),),
)


class Forgetful(peers.Dict):
    """A peer that is fast because it answers with nothing, and drops what is written."""

    name = "forgetful"
    statements = {  # noqa: RUF012
        "get": "value = None", "set": "pass", "contains": "value = True", "incr": "value = 1",
        "miss": "value = None",
    }


class Stale(peers.Dict):
    """A peer that says yes to a write and keeps what it had."""

    name = "stale"
    statements = {**peers.Dict.statements, "set": "data.setdefault(key, value)"}  # noqa: RUF012


class Silent:
    """Stands in for a progress bar."""

    def step(self) -> None:
        pass


def row_of(operation: str, peer: type[peers.Peer]) -> dict[str, Any]:
    keyset = "absent" if operation == "miss" else "hot"
    scenario = latency.Latency("tried", "", operation, keyset)
    (row,) = scenario.run(Workload(TINY), [peer], Silent())
    return row


def test_summary_and_ratio_are_computed_over_repetitions():
    assert timing.Summary.of([[1.0, 2.0], [3.0, 100.0]]) == (2.5, 100.0, 1.0)
    assert timing.paired_ratio([[4, 4], [9, 9]], [[2, 2], [3, 3]]) == (2.5, 2.0, 3.0)
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
    assert (QUICK.keys, QUICK.hot) == (100_000, 64)


@pytest.mark.parametrize("operation", ["get", "set", "incr", "contains", "miss"])
def test_sound_peers_pass_verification(operation):
    for peer in peers.present_peers()[0]:
        assert row_of(operation, peer)["problem"] == "", peer


@pytest.mark.parametrize("operation", ["get", "set", "incr", "contains", "miss"])
def test_a_broken_peer_is_found_and_has_no_figures(operation):
    row = row_of(operation, Forgetful)
    assert row["problem"]
    assert latency.metrics([row]) == {}


def test_a_write_that_keeps_the_old_value_is_found():
    assert "expected" in row_of("set", Stale)["problem"]


def test_a_value_that_goes_wrong_during_timing_is_found():
    class Decaying(peers.Dict):
        def names(self):
            asked = iter(range(10**9))
            # Right while all keys are verified first, wrong in the timed loops after that.
            verified = 2 * TINY.hot_batch * TINY.batches - 1
            data = self.data
            return {"get": lambda key: data[key] if next(asked) < verified else b""}

    assert "(timed)" in row_of("get", Decaying)["problem"]


def test_verdicts_follow_the_figures():
    limit = targets.Target("a/b", "<=", 5.0)
    assert [limit.verdict(x) for x in (4.9, 5.0, 5.1, None)] == [
        "PASS", "PASS", "MISS", "not measured"
    ]
    assert targets.Target("a/b", ">=", 3.0).verdict(2.9) == "MISS"
    assert targets.Target("a/b", "<", 1.0).verdict(1.0) == "MISS"
    judged = targets.judge({"get-hot/shmmap:dict": 9.0}, "compiled", ["get-hot"])
    assert {row["metric"]: row["verdict"] for row in judged}["get-hot/shmmap:dict"] == "MISS"
    assert targets.verdict_of(judged, "get-hot") == "MISS"
    pure = targets.judge({"get-hot/shmmap ns": 2500.0}, "pure", ["get-hot"])
    assert [row["verdict"] for row in pure] == ["PASS"]


def test_every_target_belongs_to_a_scenario():
    names = {scenario.name for _, scenario in run.select()}
    assert len(names) == len(run.select())
    assert {target.scenario for target in targets.TARGETS} <= names
    assert [s.name for _, s in run.select("incr,filled-")] == ["incr-hot", "filled-64"]


def test_missing_peers_say_how_to_get_them(monkeypatch):
    monkeypatch.setattr(peers.Lmdb, "distribution", "not_a_module_of_anyone")
    present, absent = peers.present_peers()
    assert peers.Lmdb not in present and peers.Dict in present
    assert absent["lmdb"] == "pip install not_a_module_of_anyone"


def test_the_checkout_goes_last_on_the_path(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT), "/elsewhere", str(ROOT) + "/"])
    checkout.prefer_installed()
    assert sys.path == ["/elsewhere", str(ROOT)]


def test_a_reader_that_dies_is_reported():
    core = min(os.sched_getaffinity(0))
    pair = readers.ReaderPair(peers.ShmMapPeer, "hot", Workload(TINY), [core, core])
    try:
        pair.start()
        pair.processes[0].kill()
        pair.processes[0].join(10)
        with pytest.raises(readers.ReaderError, match="reader 0 of shmmap died"):
            pair.repeat(0)
    finally:
        pair.close()
    assert not any(process.is_alive() for process in pair.processes)


def test_tiny_run_of_everything():
    # Each Manager and each pair of readers takes seconds to start: other tests have the former.
    fast = [peer for peer in peers.present_peers()[0] if not peer.slow]
    only = "hot,get,miss,contains,set,memory,headroom,filled"
    results = run.run(TINY, only, peers=fast, quiet=True)
    assert run.problems(results) == []
    assert set(results["rows"]) == set(run.FAMILIES)
    judged = {row["metric"]: row for row in results["targets"]}
    for metric, row in judged.items():
        # The tiny run has other capacities than the targets, and perhaps one core.
        if not metric.startswith(("filled", "readers")):
            assert row["verdict"] in ("PASS", "MISS"), metric
    assert judged["memory-64/shmmap amplification"]["measured"] > 1
    for row in results["rows"]["memory"]:
        assert row["evicted"] > 0 and row["written"] >= 2 * row["entries"]
    assert results["metrics"]["filled/300 entries refused"] == 0
    text = report.report(json.loads(json.dumps(results)))
    for scenario in results["scenarios"]:
        if results["rows"]["readers"] or not scenario.startswith("readers"):
            assert scenario in text or scenario == "headroom"
    assert "== Targets ==" in text and "WRONG" not in text
    left = [entry for entry in os.listdir("/dev/shm") if f"bench-{os.getpid()}-" in entry]
    assert left == []


def test_command_line_measures_the_installed_map_from_the_checkout(tmp_path):
    site = str(Path(shmmap.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-m", "bench", "quick", "--only", "headroom", "--json",
         str(tmp_path / "out.json")],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": site, "SHMMAP_ENGINE": shmmap.ENGINE},
    )
    assert done.returncode == 0, done.stderr
    assert f"{shmmap.ENGINE} engine, {site}" in done.stdout
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["engine"]["engine"] == shmmap.ENGINE
    assert site not in json.dumps(written["engine"])
    wrong = subprocess.run(
        [sys.executable, "-m", "bench", "quick", "--only", "no-such"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": site, "SHMMAP_ENGINE": shmmap.ENGINE},
    )
    assert wrong.returncode == 2 and "--list" in wrong.stderr


def test_values_and_keys_have_their_length():
    assert value_of("k01", 8) == b"k01k01k0"
    assert key_of(3, "absent") == "absent0000000003"
