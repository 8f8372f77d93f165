"""examples/09_resize.py, run as a reader would."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "09_resize.py"
LIMIT_S = 100


def test_the_map_grows_though_its_mover_is_killed(tmp_path):
    done = subprocess.run([sys.executable, str(EXAMPLE)], cwd=tmp_path, text=True,
                          capture_output=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    first, killed, grown, exact = done.stdout.splitlines()
    assert first == "3 workers use a map of 4,000,000 bytes in 8 shards"
    assert re.fullmatch(r"the process that makes it larger was killed when [3-9]\d% had moved",
                        killed)
    assert grown == "others went on: 16,000,000 bytes in 32 shards"
    assert re.match(r"[\d,]+ counts, exact; 0 wrong reads; the longest pause", exact)
