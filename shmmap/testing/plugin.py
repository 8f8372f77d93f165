"""Fixtures for pytest: a fresh map for each test. In the conftest.py at the top of your tests:

    pytest_plugins = ["shmmap.testing.plugin"]

(or `-p shmmap.testing.plugin` in `addopts`). It is no entry point: pytest would import it, and
shmmap with it, in every run of every project in an environment that has shmmap.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from ..errors import ConfigMismatch, MapNotFound
from ..map import ShmMap
from .local_map import LocalMap

SIZE = "4MB"
_KINDS: dict[str, type[ShmMap]] = {"shared": ShmMap, "local": LocalMap, "auto": ShmMap}
if sys.platform != "linux":
    _KINDS["auto"] = LocalMap


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what pytest.ini may say."""
    parser.addini(
        "shmmap_kind", 'what the fixture shmmap_map opens: "shared" (ShmMap), "local" (LocalMap), '
        '"auto" (shared on Linux, else local)', default="auto",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and refuse a kind that there is not."""
    config.addinivalue_line(
        "markers", "shmmap_map(**parameters): how the fixture shmmap_map makes its map, as for "
        "shmmap.ShmMap",
    )
    kind = config.getini("shmmap_kind")
    if kind not in _KINDS:
        raise pytest.UsageError(f"shmmap_kind = {kind!r} must be one of {', '.join(_KINDS)}")


@pytest.fixture
def shmmap_class(request: pytest.FixtureRequest) -> type[ShmMap]:
    """The class of the maps of this run: ShmMap, or LocalMap. See shmmap_kind."""
    return _KINDS[request.config.getini("shmmap_kind")]


@pytest.fixture
def shmmap_name(shmmap_class: type[ShmMap]) -> Iterator[str]:
    """A map name that nothing else has, in this run or another one, for code that opens its map
    itself. A map of that name is unlinked after the test."""
    name = f"pytest-{os.getpid()}-{os.urandom(6).hex()}"
    try:
        yield name
    finally:
        _unlink(shmmap_class, name)


def _unlink(kind: type[ShmMap], name: str) -> None:
    """Unlink a map if it is there, whichever mode it was made with."""
    for mode in (None, 0o660, 0o666):
        with suppress(ConfigMismatch):
            with suppress(MapNotFound), kind.attach(name, mode=mode) as left:
                left.unlink()
            return


@pytest.fixture
def shmmap_map(
    request: pytest.FixtureRequest, shmmap_class: type[ShmMap], shmmap_name: str
) -> Iterator[ShmMap]:
    """A fresh, empty map of 4 MB under a name of its own, unlinked after the test. Other parameters
    by a marker: `@pytest.mark.shmmap_map(ttl=60, on_full="evict")`."""
    marker = request.node.get_closest_marker("shmmap_map")
    said = {} if marker is None else dict(marker.kwargs)
    if not said.keys() & {"size", "capacity"}:
        said["size"] = SIZE
    m = shmmap_class.create(shmmap_name, **said)
    try:
        yield m
    finally:
        if not m.closed:
            m.unlink()
            m.close()
