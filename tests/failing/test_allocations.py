"""A short run of the allocation loop."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

import shmmap

from ..support.programs import command

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs a C compiler"
)


@pytest.mark.timeout(600)
def test_no_failing_allocation_does_harm(tmp_path):
    done = subprocess.run(
        command("tests.failing.allocations"), cwd=tmp_path, text=True,
        env={**os.environ, "SHMMAP_ENGINE": shmmap.ENGINE}, capture_output=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert " 0 faults" in done.stdout
