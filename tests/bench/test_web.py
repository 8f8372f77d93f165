"""The web scenarios: short runs of them, with the real gunicorn and the real wrk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil
import pytest

import shmmap
from bench.core.results import Row
from bench.core.scenario import Setup
from bench.core.workloads import QUICK, Workload
from bench.load.web_site import Served, Site
from bench.peers import Dict, FanoutCache, present_peers
from bench.peers.shm_map import ShmMapPeer
from bench.scenarios import web

pytestmark = pytest.mark.skipif(shmmap.ENGINE == "pure", reason="the same with either engine")
if shutil.which("wrk") is None:
    pytest.skip("there is no wrk (apt-get install wrk)", allow_module_level=True)
for module in ("flask", "gunicorn", "cachelib"):
    pytest.importorskip(module)

SCENARIOS = {each.name: each for each in web.SCENARIOS}
PRESENT = {peer.name for peer in present_peers()[0]}
TRIED = [  # each worker class, each site, each cache once
    ("web", "dict"), ("web", "shmmap"), ("web-gthread", "diskcache.Cache"),
    ("web-gthread", "gunicorn stash"), ("web-gevent", "shmmap"), ("web-gevent", "redis"),
    ("web-django", "shmmap"), ("web-django", "redis"), ("web-django", "diskcache.FanoutCache"),
]


def setup_of(*peers: type) -> Setup:
    return Setup(Workload(QUICK._replace(keys=10)), list(peers), (1,))


def loaded(served: Served) -> Row:
    """Load a site once; nothing of it may stay, neither processes nor files nor a map."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    site = Site(served)
    try:
        site.repeat(0)
        row = site.row()
    finally:
        site.close()
    left = {child.pid for child in psutil.Process().children(recursive=True)} - before
    assert not left and not [name for name in os.listdir("/dev/shm") if site.folder.name in name]
    return row


@pytest.mark.parametrize(("scenario", "kind"), TRIED, ids=str)
def test_a_site_is_loaded_counts_right_and_leaves_nothing(scenario, kind):
    asked = SCENARIOS[scenario]
    if kind not in PRESENT or not asked.able(setup_of(ShmMapPeer)):
        pytest.skip(f"{kind}, or what {scenario} needs, is not installed")
    if shmmap.ENGINE == "pure" and kind != "shmmap":
        pytest.skip("the same with either engine")
    row = loaded(Served(scenario, web.SITES / asked.site, asked.worker_class, kind, 1))
    assert (row.scenario, row.peer, row.problem) == (scenario, kind, "")
    assert row.median("per_s") > 10 and row.median("cpu_us") > 10
    assert 0 < row.median("p50_ns") <= row.median("p99_ns")
    assert row.median("bytes") > 10**6
    counted = row.facts.get("counted_percent")
    assert counted is None if kind == "dict" else counted > (5 if "stash" in kind else 99.9)


def test_a_site_that_loses_counts_is_found(tmp_path):
    good = (web.SITES / "flask_site.py").read_text()
    bad = good.replace('cache.inc("requests")', 'number % 4 and cache.inc("requests")')
    assert bad != good
    row = loaded(Served("web", site_of(tmp_path, bad), "sync", "shmmap", 1))
    assert row.problem.startswith("counted ") and 60 < row.facts["counted_percent"] < 90


def test_a_site_that_fails_requests_is_found(tmp_path):
    good = (web.SITES / "flask_site.py").read_text()
    bad = good.replace("    text = cache.get(", "    assert number % 4\n    text = cache.get(")
    assert bad != good
    row = loaded(Served("web", site_of(tmp_path, bad), "sync", "shmmap", 1))
    assert row.problem.startswith("Non-2xx")


def test_a_site_that_does_not_start_ends_its_part_only(tmp_path):
    row = loaded(Served("web", site_of(tmp_path, "raise OSError('on purpose')"), "sync", "dict", 1))
    assert row.samples == {} and "does not start" in row.problem


def site_of(folder: Path, text: str) -> Path:
    (folder / "site.py").write_text(text)
    return folder / "site.py"


def test_only_caches_that_are_asked_for_and_there_take_part():
    assert SCENARIOS["web"].able(setup_of(Dict, ShmMapPeer)) == ["dict", "shmmap"]
    assert SCENARIOS["web"].steps(setup_of(Dict, ShmMapPeer)) == 2 * QUICK.experiment_repetitions
    assert SCENARIOS["web"]._replace(needs=("no_such_module",)).able(setup_of(Dict)) == []
    pytest.importorskip("django")
    assert SCENARIOS["web-django"].able(setup_of(FanoutCache)) == ["diskcache.FanoutCache"]
