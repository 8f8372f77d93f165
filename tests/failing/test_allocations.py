"""A short run of the allocation loop."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import shmmap

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs a C compiler"
)
TOP = Path(__file__).parents[2]
# The package under test is the one that this process has, not the source tree.
RUN = (
    "import sys; sys.path[:] = [entry for entry in sys.path if entry]; import shmmap; "
    "sys.path.append(sys.argv.pop(1)); from tests.failing.allocations.__main__ import main; "
    "sys.exit(main(sys.argv[1:]))"
)


@pytest.mark.timeout(600)
def test_no_failing_allocation_does_harm(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RUN, TOP], cwd=tmp_path, text=True,
        env={**os.environ, "SHMMAP_ENGINE": shmmap.ENGINE}, capture_output=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert " 0 faults" in done.stdout
