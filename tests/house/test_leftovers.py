"""A test run that was killed leaves nothing for long."""

from __future__ import annotations

import subprocess
import sys

from ..support.leftovers import of_run, remove_of_dead_runs

DYING = """
import os, signal, shmmap
m = shmmap.ShmMap(f"t{os.getpid()}-dying", "256KB", shards=1)
m["a"] = 1
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_objects_of_a_killed_run_are_removed(tmp_path):
    run = subprocess.Popen([sys.executable, "-W", "ignore", "-c", DYING], cwd=tmp_path)
    assert run.wait(30) == -9
    # control, liveness, one shard and that of the locks, a semaphore each
    assert len(of_run(run.pid)) == 6
    assert remove_of_dead_runs() >= 6
    assert of_run(run.pid) == []
