"""Waiting for what another thread, process or server does."""

from __future__ import annotations

import time
from collections.abc import Callable

LIMIT_S = 20.0


def until(is_so: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Wait for something."""
    deadline = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.002)
