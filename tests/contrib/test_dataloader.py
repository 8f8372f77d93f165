"""Workers of a DataLoader that read a dataset in a map: what it saves, and what a kill does.

The example is run as it is, with a loader of its own and, where there is PyTorch, with its
DataLoader. (PyTorch is no requirement of the tests: it takes a gigabyte.)
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ..support.children import Child, Children
from ..support.engines import once

pytestmark = once  # the same with either engine

EXAMPLE = Path(__file__).parents[2] / "examples" / "08_dataloader.py"
SAMPLES, WORKERS, SIZE_MB = 6000, 2, 18.0  # a sample has 3 kB
LIMIT_S = 110
ROW = re.compile(r"^(list|map) +(fork|spawn) +(-?\d+\.\d) +(-?\d+\.\d)$", re.M)


@pytest.fixture(scope="module")
def example() -> Any:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("dataloader_example", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("loader", ["plain", "torch"])
def test_a_worker_has_no_copy_of_what_the_map_holds(loader: str) -> None:
    """It exits with 0 only if every sample has come exactly once, before a kill and after it."""
    if loader == "torch" and find_spec("torch") is None:
        pytest.skip("PyTorch is not installed; the loader of the example was tested instead")
    ran = subprocess.run(
        [sys.executable, str(EXAMPLE), "--samples", str(SAMPLES), "--workers", str(WORKERS),
         "--loader", loader], capture_output=True, text=True, timeout=LIMIT_S,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"workers of the {loader} loader" in ran.stdout
    assert len(re.findall(r"^(fork|spawn): killed worker \d+ after", ran.stdout, re.M)) == 2
    rows = {(kind, method): (float(private), float(together))
            for kind, method, private, together in ROW.findall(ran.stdout)}
    assert len(rows) == 4, ran.stdout
    for method in ("fork", "spawn"):
        copied, shared = rows["list", method], rows["map", method]
        assert shared[0] * 3 < copied[0] and shared[1] + SIZE_MB / 3 < copied[1], ran.stdout
        # once for all, with what a map takes beside; a list is there once and in each worker
        assert SIZE_MB * 0.9 < shared[1] < SIZE_MB * 1.7, ran.stdout
    assert rows["list", "spawn"][0] > SIZE_MB * 0.9, ran.stdout


def test_an_epoch_that_is_not_whole_is_found(example: Any) -> None:
    """What the example calls right is: each sample, once, as it was made."""
    right = [(number, 7, example.make_sample(number)) for number in range(4)]
    assert example.read_epoch([right[2:], right[:2]], 4) == (True, {7})
    for wrong in (right[:3], [*right, right[1]], [*right[:3], right[2]],
                  [*right[:3], (3, 7, example.make_sample(2))]):
        assert not example.read_epoch([wrong], 4)[0]


def test_a_loader_that_lost_no_worker_is_not_taken_for_one(example: Any) -> None:
    with pytest.raises(AssertionError, match="has not noticed"):
        example.kill_a_reader([[]], 4)


def test_of_all_workers_one_decodes_a_sample(make: Any, start: Children) -> None:
    """Each of them reads each sample twice, in an order of its own; one is killed in the middle
    of decoding, and the next one decodes that sample."""
    m = make(size="2MB")

    def read(child: Child, number: int, is_victim: bool = False) -> Any:
        def decode() -> str:
            if is_victim:
                child.tell("decoding")
                child.hear()
            m.incr(("decoded", number))
            return f"sample {number} " * 100

        return m.get_or_set(number, decode)

    victim = start(lambda child: read(child, 5, is_victim=True))
    assert victim.hear() == "decoding"

    def work(child: Child) -> bool:
        step = child.hear()
        order = [number * step % 101 for number in range(1, 101)] * 2
        return all(read(child, number) == f"sample {number} " * 100 for number in order)

    workers = [start(work) for _ in range(3)]
    for step, worker in zip((1, 7, 11), workers, strict=True):
        worker.tell(step)
    victim.kill()
    assert [worker.end() for worker in workers] == [True] * 3
    assert [m["decoded", number] for number in range(1, 101)] == [1] * 100
    assert m.check() == []
