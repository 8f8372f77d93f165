"""cachelib's tests of SimpleCache, run against ours."""

import itertools
import os

import pytest

from shmmap.contrib.cachelib import ShmMapCache

_numbers = itertools.count()


class Ours(ShmMapCache):
    """With what the tests look at beside the interface."""

    serializer = None  # ours is the map's codec

    @property
    def _cache(self):
        return self.map


@pytest.fixture(autouse=True)
def shmmap_instead(request, monkeypatch):
    """Have each test's cache be a map of its own."""
    made = []

    def factory(self, *arguments, threshold=500, **named):
        name = f"suite-{os.getpid()}-{next(_numbers)}"
        made.append(Ours(name, *arguments, size="1MB", **named))
        return made[-1]

    request.getfixturevalue("cache_factory")
    monkeypatch.setattr(request.cls, "cache_factory", factory)
    yield
    for cache in made:
        cache.map.unlink()
        cache.map.close()
