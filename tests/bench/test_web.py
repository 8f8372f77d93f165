"""The web scenario: a short run of it, with the real gunicorn and the real wrk."""

from __future__ import annotations

import os
import shutil

import psutil
import pytest

from bench.core.workloads import QUICK
from bench.peers import Dict
from bench.peers.shm_map import ShmMapPeer
from bench.scenarios import web

if shutil.which("wrk") is None:
    pytest.skip("there is no wrk (apt-get install wrk)", allow_module_level=True)
for module in ("flask", "gunicorn", "cachelib"):
    pytest.importorskip(module)


def test_sites_are_loaded_in_turn_and_leave_nothing():
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    rows = []
    for kind in ("dict", "shmmap"):
        site = web.Site("web", kind, 1)
        try:
            site.repeat(0)
            rows.append(site.row())
        finally:
            site.close()
    for row in rows:
        assert not row.problem and row.median("per_s") > 10
        assert row.median("p50_ns") <= row.median("p99_ns") and row.median("cpu_us") > 10
        assert row.median("bytes") > 10**6
    left = {child.pid for child in psutil.Process().children(recursive=True)} - before
    assert not left and not [name for name in os.listdir("/dev/shm") if site.folder.name in name]


def test_only_caches_that_are_asked_for_and_there_take_part():
    class Setup:
        scale = QUICK
        peers = (Dict, ShmMapPeer)

    assert web.Web().able(Setup) == ["dict", "shmmap"]
    assert web.Web().steps(Setup) == 2 * QUICK.experiment_repetitions
