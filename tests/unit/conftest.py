"""Clocks that stand still until a test moves them, and a second map."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import shmmap

from ..support.dump_files import Boots


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


@pytest.fixture
def boots(monkeypatch: pytest.MonkeyPatch) -> Boots:
    return Boots(monkeypatch)


@pytest.fixture
def other(name: str) -> Any:
    """Open a second map: other(size="1MB", ...); it is unlinked at the end."""
    opened: list[Any] = []

    def open_map(**parameters: Any) -> Any:
        parameters = {"size": "1MB", "sweep_interval": None, **parameters}
        opened.append(shmmap.ShmMap(f"{name}-other", **parameters))
        return opened[-1]

    open_map.name = f"{name}-other"  # type: ignore[attr-defined]
    yield open_map
    for m in opened:
        if not m.closed:
            m.unlink()
            m.close()
