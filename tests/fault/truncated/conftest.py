"""A map whose files are cut off: what is left of it is removed."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .cutting import SHM


@pytest.fixture
def leftovers(name: str) -> Iterator[str]:
    """The name of a map whose objects are removed one by one: damaged, it may not open."""
    yield name
    for entry in os.listdir(SHM):
        if entry.removeprefix("sem.").split(".")[1:2] == [name]:
            (SHM / entry).unlink()
