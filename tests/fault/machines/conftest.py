"""The right to make machines of namespaces; one engine is enough for what takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import shmmap

pytest.importorskip("redis")

from ...machines.network import Network, why_not


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skip where there can be none, and with the engine that is not the faster one."""
    if shmmap.ENGINE != "compiled":
        pytest.skip("machines as namespaces: run with the compiled engine")
    if reason := why_not():
        pytest.skip(f"machines as namespaces: {reason}")


@pytest.fixture
def network(namespaces: None) -> Iterator[Network]:
    """A network of its own."""
    with Network.made() as made:
        yield made


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name, for sockets."""
    with TemporaryDirectory(prefix="machines-") as made:
        yield Path(made)
