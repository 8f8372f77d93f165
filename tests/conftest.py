"""Which engine is under test, unique map names, clocks that a test moves, and nothing left in
/dev/shm.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap import _engine
from shmmap.lifecycle import headers
from shmmap.shard import _shard_cy
from shmmap.system import _sigbus_cy

from .support.children import Children
from .support.clocks import START_NS, FrozenClock
from .support.leftovers import SHM, control_file, of_run, remove_of_dead_runs

if headers.CLOCK.now_ns() > START_NS:  # no deadline of a frozen clock is before all deadlines
    headers.CLOCK.frozen_ns = START_NS
_RUN = f"t{os.getpid()}"
_numbers = itertools.count()


def pytest_report_header(config: pytest.Config) -> str:
    wanted = os.environ.get(_engine.VARIABLE, "")
    file = Path(_shard_cy.__file__)
    actual = "pure" if file.suffix == ".py" else "compiled"
    if actual != shmmap.ENGINE or wanted not in ("", actual):
        pytest.exit(f"engine: wanted {wanted!r}, ENGINE says {shmmap.ENGINE}, file is {file}", 4)
    if actual == "compiled" and (file.parents[2] / "setup.py").exists():  # built in place
        for name in _engine.MODULES:
            source = Path(f"{_engine.path_of(name)}.py")
            built = max(so.stat().st_mtime for so in source.parent.glob(f"{source.stem}.*.so"))
            if built < source.stat().st_mtime:
                pytest.exit(f"engine: {name} was compiled before its source changed; rebuild", 4)
    return f"shmmap: {shmmap.ENGINE} engine from {file}"


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    remove_of_dead_runs()
    yield
    in_use, spare, in_all = _sigbus_cy.count_regions()
    assert in_use + spare == in_all, "guarded memory was forgotten twice: a mapping is unguarded"
    left = of_run(os.getpid())
    for entry in left:
        (SHM / entry).unlink(missing_ok=True)
    assert not left, f"left in /dev/shm: {left[:5]} ({len(left)} objects)"


@pytest.fixture
def name() -> Iterator[str]:
    """A map name that nobody else uses; whatever of it is left after the test is unlinked."""
    fresh = f"{_RUN}-{next(_numbers)}"
    yield fresh
    if (SHM / control_file(fresh)).exists():
        with shmmap.ShmMap.attach(fresh) as m:
            m.unlink()


@pytest.fixture
def make(name: str) -> Iterator[Callable[..., Any]]:
    """Open the test's map: make(size="1MB", ...); all handles are closed at the end."""
    opened: list[Any] = []

    def open_map(**parameters: Any) -> Any:
        if not opened:
            parameters = {"size": "1MB", "sweep_interval": None, **parameters}
            if parameters.get("capacity"):
                del parameters["size"]
        opened.append(shmmap.ShmMap(name, **parameters))
        return opened[-1]

    yield open_map
    for handle in opened:
        if not handle.closed:
            try:
                handle.unlink()
            finally:
                handle.close()


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


@pytest.fixture
def freeze() -> Iterator[Callable[[Any], FrozenClock]]:
    """Freeze a map's clock: `clock = freeze(m)`, then `clock.advance(seconds)`."""
    clocks: list[FrozenClock] = []

    def freeze_map(m: Any) -> FrozenClock:
        clocks.append(FrozenClock(m))
        return clocks[-1]

    yield freeze_map
    for clock in clocks:
        clock.run()


@pytest.fixture
def start() -> Iterator[Children]:
    """start(work): run work(child) in a forked process, ended with the test at the latest."""
    children = Children()
    yield children
    children.close()
