"""The bench on the path, behind the shmmap under test; and nothing that a run leaves behind."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import shmmap  # noqa: F401  # before the checkout is on the path: this one stays

ROOT = str(Path(__file__).resolve().parents[2])
if ROOT not in sys.path:
    sys.path.append(ROOT)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No test leaves shared memory of the bench or a process."""
    yield
    assert [entry for entry in os.listdir("/dev/shm") if f"bench-{os.getpid()}-" in entry] == []
    assert multiprocessing.active_children() == []
