"""A clock that stands still until a test moves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture
def freeze() -> Iterator[Callable[[Any], Any]]:
    """Freeze a map's clock and give it: its `frozen_ns` is the time."""
    clocks: list[Any] = []

    def freeze_map(m: Any) -> Any:
        clocks.append(m.attachment.clock)
        clocks[-1].frozen_ns = 10**15
        return clocks[-1]

    yield freeze_map
    for clock in clocks:
        clock.frozen_ns = -1
