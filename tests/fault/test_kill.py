"""A short, seeded run of the kill loop: see kill_loop.py, which runs it at any length."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import shmmap

SCRIPT = Path(__file__).with_name("kill_loop.py")
ROUNDS = int(os.environ.get("SHMMAP_KILL_ROUNDS", "40"))


@pytest.mark.parametrize(("seed", "size", "shards"), [(1, "8MB", 2), (2, "2MB", 1)])
def test_workers_killed_at_random_moments(name, seed, size, shards):
    command = [
        sys.executable, str(SCRIPT), "--engine", shmmap.ENGINE, "--rounds", str(ROUNDS),
        "--seed", str(seed), "--size", size, "--shards", str(shards), "--prefix", name, "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.stdout, f"seed {seed}: {done.stderr}"
    report = json.loads(done.stdout)
    assert report["problems"] == [], f"{report}\n{done.stderr}"
    assert done.returncode == 0
    assert report["rounds"] == ROUNDS
    assert report["killed_in_an_operation"] > 0
    assert report["takeovers"] > 0, report
    assert report["repairs"] > 0, report
    assert report["longest_ms"] <= {"compiled": 200, "pure": 1000}[shmmap.ENGINE], report
