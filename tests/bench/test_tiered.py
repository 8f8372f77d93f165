"""The scenarios of several machines: tiny runs, and that no wrong answer looks right."""

from __future__ import annotations

import os
from shutil import which

import psutil
import pytest

import shmmap
from bench.core.results import OURS, Row
from bench.core.workloads import QUICK
from bench.load.tiered_machines import ALONE, BEHIND, CACHED, PLAIN, Served
from bench.peers import Dict
from bench.scenarios import reconcile, tiered

from .runs import measured, setup_of

pytest.importorskip("redis")
pytestmark = [
    pytest.mark.skipif(which("redis-server") is None, reason="there is no redis-server"),
    pytest.mark.skipif(shmmap.ENGINE == "pure", reason="the same with either engine"),
]
TINY = QUICK._replace(keys=200, experiment_seconds=0.05, experiment_repetitions=2)
SCENARIOS = {each.name: each for each in (*tiered.SCENARIOS, *reconcile.SCENARIOS)}


def run(name: str) -> dict[str, Row]:
    """Run a scenario; nothing of it may stay. Return the rows by kind."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    rows = measured(SCENARIOS[name], setup_of(TINY, [Dict]))
    left = [child for child in psutil.Process().children(recursive=True)
            if child.pid not in before and "resource_tracker" not in " ".join(child.cmdline())]
    assert not left and not [each for each in os.listdir("/dev/shm") if f"-{os.getpid()}-" in each]
    assert all(row.problem == "" for row in rows), rows
    return {row.peer: row for row in rows}


def test_two_machines(monkeypatch):
    monkeypatch.setattr(tiered, "A_MACHINE", 1)
    rows = run("tiered")
    assert list(rows) == [OURS, ALONE, PLAIN, CACHED]
    for row in rows.values():
        assert 0 < row.median("p50_ns") <= row.median("p99_ns") and row.median("per_s") > 100
        assert row.median("bytes") > 1e6
    assert rows[ALONE].median("asked_per_s") < rows[OURS].median("asked_per_s") < (
        rows[PLAIN].median("asked_per_s"))
    assert all(0 < rows[kind].median("near_percent") <= 100 for kind in (OURS, CACHED))


def test_a_hit(monkeypatch):
    rows = run("tiered-hit")
    assert set(rows) >= {ALONE, OURS, PLAIN}
    assert max(rows[ALONE].median("ns"), rows[OURS].median("ns")) < rows[PLAIN].median("ns")


def test_news_and_a_storm(monkeypatch):
    monkeypatch.setattr(tiered, "NEWS", 5)
    monkeypatch.setattr(tiered, "BOUND_S", 0.4)
    rows = run("tiered-news")
    assert list(rows) == [OURS, PLAIN, CACHED]
    assert all(row.median("p50_ns") < 1e9 for row in rows.values())
    assert run("tiered-storm")[OURS].median("ms") > 0


def test_writes(monkeypatch):
    monkeypatch.setattr(tiered, "WRITES", 200)
    rows = run("tiered-write")
    assert list(rows) == [OURS, BEHIND, PLAIN]
    assert rows[BEHIND].median("p50_ns") < rows[OURS].median("p50_ns")


def test_two_stores_that_differ():
    rows = run("reconcile")
    assert [row.facts["differ"] for row in rows.values()] == [0, 0, 2]
    assert all(row.median("ms") > 0 and row.median("bytes") > 40 * 200 for row in rows.values())


def test_wrong_answers_are_told():
    lane = tiered.CrowdLane.__new__(tiered.CrowdLane)
    lane.kind, lane.problem = PLAIN, ""
    lane.samples = {name: [] for name in ("per_s", "p50_ns", "p99_ns", "asked_per_s", "bytes")}
    lane.note([Served(10, 0, [5], 0, 10**9, 1, 3)], 10, 10)
    assert lane.problem == "3 of 10 answers were wrong"
