"""The rates scenarios: tiny runs, and that no broken limiter looks right."""

from __future__ import annotations

import os

import psutil
import pytest

from bench.core.results import Row
from bench.core.workloads import QUICK
from bench.load.rate_limits import EACH, LIMIT, Hits
from bench.peers import Dict, Memcached, Redis, ShmMapPeer, present_peers
from bench.scenarios import rates

from ..support.engines import once
from .runs import measured, setup_of

pytestmark = once  # the same with either engine

TINY = QUICK._replace(keys=10, experiment_seconds=0.02, experiment_repetitions=2)
SCENARIOS = {each.name: each for each in rates.SCENARIOS}
SERVERS = [peer for peer in (Redis, Memcached) if peer in present_peers()[0]]
ALGORITHMS = ("fixed", "sliding")


def run(name: str, *peers: type, processes: int = 1) -> dict[tuple[str, str], Row]:
    """Run a scenario; nothing of it may stay. Return the rows by algorithm and limiter."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    scenario = SCENARIOS[name]._replace(processes=processes)
    rows = measured(scenario, setup_of(TINY, [ShmMapPeer, *peers]))
    left = [child for child in psutil.Process().children(recursive=True)
            if child.pid not in before and "resource_tracker" not in " ".join(child.cmdline())]
    assert not left and not [each for each in os.listdir("/dev/shm") if f"-{os.getpid()}-" in each]
    return {(row.point["algorithm"], row.peer): row for row in rows}


def test_hits_of_one_process_are_timed():
    pytest.importorskip("limits")
    rows = run("rates", Dict, *SERVERS)
    kinds = ["shmmap", "limits, shmmap", *(f"limits, {peer.name}" for peer in SERVERS),
             "limits, memory"]
    assert list(rows) == [*((a, kind) for a in ALGORITHMS for kind in kinds), ("bucket", "shmmap")]
    for row in rows.values():
        assert row.problem == "" and len(row.samples["ns"]) == TINY.experiment_repetitions
        assert 0 < row.median("ns") <= row.median("p99_ns") and row.facts["hits"] > 10


def test_a_shared_limit_holds_for_all_processes_and_one_in_memory_does_not():
    pytest.importorskip("limits")
    rows = run("rates-processes", processes=2)
    assert {kind for _, kind in rows} == {"shmmap", "limits, shmmap", "limits, memory"}
    for (_, kind), row in rows.items():
        passed = LIMIT * (2 if kind == "limits, memory" else 1)
        assert row.problem == "" and row.samples["let_through"] == [passed] * 2
        assert row.median("per_s") > 100 and row.facts["hits_of_one_key"] == EACH * 2


def test_without_limits_our_own_is_measured(monkeypatch):
    monkeypatch.setattr(rates, "find_spec", lambda name: None)
    rows = run("rates")
    assert list(rows) == [(algorithm, "shmmap") for algorithm in ("fixed", "sliding", "bucket")]


def test_a_limit_that_lets_too_many_through_is_found():
    lane = rates.CrowdLane("rates-processes", "shmmap", "fixed", 0.01, 1)
    try:
        lane.note([Hits(10, 10, 0, 1_000)], [Hits(EACH, LIMIT, 0, 1)])
        assert lane.row().problem == ""
        lane.note([Hits(10, 10, 0, 1_000)], [Hits(EACH, LIMIT + 1, 0, 1)])
        assert "1001 hits were let through, where the limit is 1000" in lane.row().problem
        lane.note([Hits(10, 9, 0, 1_000)], [Hits(EACH, LIMIT, 0, 1)])
        assert "1 of 10 hits were refused" in lane.row().problem
    finally:
        lane.close()


def test_a_limiter_that_refuses_what_it_should_not_is_found(monkeypatch):
    monkeypatch.setattr(rates, "ENDLESS", 1)  # and what is timed are refusals, which are cheaper
    lane = rates.HitLane("rates", "shmmap", "fixed", 0.01)
    try:
        lane.repeat(0)
        assert "hits were refused" in lane.row().problem
    finally:
        lane.close()


def test_a_limiter_that_cannot_be_opened_leaves_no_store(monkeypatch):
    monkeypatch.setattr(rates, "opened", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        rates.HitLane("rates", "shmmap", "fixed", 0.01)
    assert not [each for each in os.listdir("/dev/shm") if f"bench-{os.getpid()}-" in each]
