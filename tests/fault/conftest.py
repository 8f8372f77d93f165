"""A /dev/shm of the test's own: nothing is filled, planted or left in the machine's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ..support.strangers import enter_own_shm


@pytest.fixture
def private(start) -> Callable[..., Any]:
    """private(work, size): run work() in a child with a /dev/shm of its own."""
    def run(work: Callable[[], Any], size: str = "4m") -> Any:
        def within(child: Any) -> Any:
            return work() if enter_own_shm(size) else "not permitted"

        result = start(within).result()
        if result == "not permitted":
            pytest.skip("needs the right to mount a tmpfs (CAP_SYS_ADMIN)")
        return result

    return run
