"""The children that protocol tests start."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stress"))

from children import Children


@pytest.fixture
def start() -> Iterator[Children]:
    """start(work): run work(child) in a forked process, ended with the test at the latest."""
    children = Children()
    yield children
    children.close()
