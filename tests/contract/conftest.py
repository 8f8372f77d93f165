"""A clock that stands still until a test moves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

START_NS = 10**15


class FrozenClock:
    """The clock of one map in this process."""

    def __init__(self, m: Any) -> None:
        self._clock = m.attachment.clock
        self._clock.frozen_ns = START_NS

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        self._clock.frozen_ns += round(seconds * 1e9)

    def run(self) -> None:
        """Let the real clock take over."""
        self._clock.frozen_ns = -1


@pytest.fixture
def freeze() -> Iterator[Callable[[Any], FrozenClock]]:
    """Freeze a map's clock: freeze(m).advance(seconds)."""
    clocks: list[FrozenClock] = []

    def freeze_map(m: Any) -> FrozenClock:
        clocks.append(FrozenClock(m))
        return clocks[-1]

    yield freeze_map
    for clock in clocks:
        clock.run()
