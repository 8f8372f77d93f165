"""The same seeded operations leave the same bytes in both engines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shmmap import _engine

SHAPES = {
    "4 shards": {"size": "1MB", "shards": 4},
    "chains": {"size": "300KB", "shards": 1, "value_size": 0, "key_size": 0},
    "full": {"capacity": 60, "shards": 1, "value_size": 24},
    "evict": {"capacity": 60, "shards": 1, "value_size": 24, "on_full": "evict"},
    "evict in 2 shards": {"capacity": 80, "shards": 2, "value_size": 0, "on_full": "evict"},
    "default ttl": {"size": "300KB", "shards": 2, "ttl": 4.5},
}
STEPS = 1200
compiled_only = pytest.mark.skipif(
    len(_engine.compiled_modules()) < len(_engine.MODULES), reason="the compiled engine is not here"
)


def run(engine: str, name: str, shape: str, seed: int) -> dict[str, Any]:
    """Run the operations in a process of that engine."""
    script = Path(__file__).with_name("same_bytes_run.py")
    package = Path(_engine.__file__).parents[1]
    paths = [str(package), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(script), str(script.parent), name, json.dumps(SHAPES[shape]),
         str(seed), str(STEPS)],
        env={**os.environ, _engine.VARIABLE: engine, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["engine"] == engine
    return result


def first_difference(one: str, other: str) -> str:
    """Name the first word in which two dumps differ."""
    for at in range(0, min(len(one), len(other)), 16):
        if one[at : at + 16] != other[at : at + 16]:
            return f"at byte {at // 2}: compiled {one[at : at + 16]}, pure {other[at : at + 16]}"
    return f"lengths {len(one) // 2} and {len(other) // 2}"


@compiled_only
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", [1, 2])
def test_both_engines_leave_the_same_bytes(name, shape, seed):
    compiled, pure = (run(engine, name, shape, seed) for engine in ("compiled", "pure"))
    assert compiled["entries"] > 0
    assert (compiled["refused"] > 0) is (shape == "full")
    assert (compiled["evicted"] > 0) is ("evict" in shape)
    if compiled["digests"] != pure["digests"]:
        where = first_difference(compiled["first shard"], pure["first shard"])
        pytest.fail(f"{shape!r}, seed {seed}: the first shard differs {where}")


@compiled_only
def test_other_operations_leave_other_bytes(name):
    """The digests do tell: without this the test above could compare nothing."""
    one, other = (run("compiled", name, "4 shards", seed)["digests"] for seed in (1, 2))
    assert all(a != b for a, b in zip(one, other, strict=True))
