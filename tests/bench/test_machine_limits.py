"""The scenario of limits of several machines: tiny runs, and that none that fails looks right."""

from __future__ import annotations

import os
from shutil import which

import pytest

import shmmap
from bench.core.workloads import QUICK
from bench.load.machine_limits import ALONE, EXACT, KINDS, SHARES, Hits
from bench.load.rate_limits import LIMIT
from bench.peers import Dict
from bench.scenarios import machine_limits

from .runs import measured, setup_of

pytest.importorskip("redis")
pytest.importorskip("limits")
pytestmark = [
    pytest.mark.skipif(which("redis-server") is None, reason="there is no redis-server"),
    pytest.mark.skipif(shmmap.ENGINE == "pure", reason="the same with either engine"),
]
TINY = QUICK._replace(keys=10, experiment_seconds=0.05, experiment_repetitions=2)


def test_two_machines(monkeypatch):
    monkeypatch.setattr(machine_limits, "A_MACHINE", 1)
    rows = {row.peer: row for row in measured(
        machine_limits.SCENARIOS[0], setup_of(TINY, [Dict]))}
    assert tuple(rows) == KINDS and not [
        each for each in os.listdir("/dev/shm") if f"-{os.getpid()}-" in each]
    for kind, row in rows.items():
        assert row.problem == "" and 0 < row.median("p50_ns") <= row.median("p99_ns")
        assert row.samples["let_through"] == [LIMIT] * 2 or kind not in EXACT
    assert rows[ALONE].samples["let_through"] == [2 * LIMIT] * 2
    assert rows[ALONE].median("asked_per_s") == 0
    for kind in EXACT:  # each hit is a request
        assert rows[kind].median("asked_per_s") == pytest.approx(rows[kind].median("per_s"), abs=2)
    assert 0 < rows[SHARES].median("asked_per_s") <= rows[SHARES].median("per_s") + 2


def test_too_many_and_too_few_are_told():
    lane = machine_limits.LimitsLane.__new__(machine_limits.LimitsLane)
    names = ("per_s", "p50_ns", "p99_ns", "asked_per_s", "let_through")
    for kind, passed, says in (
        ("shmmap", LIMIT, ""), ("shmmap", LIMIT - 1, "let through"), (SHARES, LIMIT - 1, ""),
        (SHARES, LIMIT + 1, "let through"),
    ):
        lane.kind, lane.problem, lane.samples = kind, "", {name: [] for name in names}
        lane.note([Hits(10, 10, [5], 0, 10**9)], 10, [Hits(2_000, passed, [], 0, 1)])
        assert says in lane.problem and bool(says) is bool(lane.problem)
    lane.note([Hits(10, 9, [5], 0, 10**9)], 10, [Hits(2_000, 1, [], 0, 1)])
    lane.kind = ALONE
    lane.note([Hits(10, 9, [5], 0, 10**9)], 10, [Hits(2_000, 1, [], 0, 1)])
    assert lane.problem == "1 of 10 hits were refused"
