"""A short, seeded run of the corruption fuzz: `python -m tests.fuzz` runs it at any length.

SHMMAP_FUZZ_STATES sets how many damaged states; a failing one replays alone:

    python -m tests.fuzz --replay SEED
"""

from __future__ import annotations

import json
import os
import subprocess

import pytest

import shmmap

from ..support.programs import command

DEFAULT = {"compiled": "3000", "pure": "120"}[shmmap.ENGINE]
STATES = int(os.environ.get("SHMMAP_FUZZ_STATES", DEFAULT))


def run(name: str, *arguments: str) -> tuple[subprocess.CompletedProcess[str], dict]:
    """Run the fuzz; return how it ended, and its report."""
    done = subprocess.run(
        command("tests.fuzz", "--prefix", name, "--json", *arguments),
        env={**os.environ, "SHMMAP_ENGINE": shmmap.ENGINE}, capture_output=True, text=True,
        timeout=100,
    )
    assert done.stdout, done.stderr
    return done, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("seed", [1, 10_000_000])
def test_damaged_states(name, seed):
    done, report = run(name, "--seed", str(seed), "--states", str(STATES))
    assert report["problems"] == {}, f"{report['problems']}\n{done.stderr}"
    assert done.returncode == 0
    assert report["states"] == STATES and report["engine"] == shmmap.ENGINE
    if STATES >= 1000:  # every kind of damage, and every operation, has had its turn
        assert min(report["damages"].values()) > 0 and min(report["operations"].values()) > 0


def test_a_state_replays_alone(name):
    """The same seed damages the same words, and every step is told."""
    first, second = (run(name, "--replay", "77")[0].stdout for _ in range(2))
    assert "seed 77, map" in first and "check after repair: done" in first
    tell = [line for line in first.splitlines() if not line.startswith("{")]
    assert tell == [line for line in second.splitlines() if not line.startswith("{")]
