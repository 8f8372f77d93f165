"""dogpile.cache's own tests, of its regions and of backends, run against ours.

Their "mock", memory and Redis backends are ours. Sleeping of the main thread is the passing of time
at once; threads sleep for a tenth.
"""

import itertools
import os
import sys
import threading
import time

import dogpile.cache.api
import dogpile.cache.region
import dogpile.lock
import dogpile.testing.fixtures as fixtures
import pytest
from dogpile.cache import register_backend

import shmmap.contrib.dogpile
from shmmap.contrib.dogpile import ShmMapBackend, ShmMapInvalidation

_numbers = itertools.count()
_made = []
THEIRS = ("host", "port", "db", "url", "foo", "lock_prefix", "thread_local_lock",
          "dogpile_lockfile", "xyz", "arbitrary_arg_one", "arbitrary_arg_two")
NAMES = ("mock", "dogpile.cache.memory", "dogpile.cache.redis")


class Ours(ShmMapBackend):
    """A map of its own for each test, with what the tests look at beside the interface."""

    name = ""

    def __init__(self, arguments):
        self.arguments = arguments
        ours = {key: value for key, value in arguments.items() if key not in THEIRS}
        super().__init__({"name": self.name or f"suite-{os.getpid()}", "size": "1MB", **ours})
        _made.append(self)

    @property
    def _cache(self):
        return {key: value for key, value in self.map.items() if not isinstance(key, tuple)}


for backend in NAMES:
    register_backend(backend, __name__, "Ours")


class Clock:
    """Stands for the module `time`."""

    def __init__(self):
        self.passed = 0.0

    def time(self):
        return time.time() + self.passed

    def sleep(self, seconds):
        if threading.current_thread() is not threading.main_thread():
            time.sleep(seconds / 10)
            seconds *= 0.9
        self.passed += seconds


@pytest.fixture(autouse=True)
def shmmap_instead(request, monkeypatch):
    """Have each region use a map of this test, our invalidation, and a clock that can be moved."""
    monkeypatch.setattr(Ours, "name", f"suite-{os.getpid()}-{next(_numbers)}")
    clock = Clock()
    for module in (dogpile.cache.region, dogpile.cache.api, dogpile.lock, fixtures,
                   shmmap.contrib.dogpile, sys.modules[request.cls.__module__]):
        if hasattr(module, "time"):
            monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(sys.modules[request.cls.__module__], "MockBackend", Ours, raising=False)
    region = dogpile.cache.region.CacheRegion
    configure = region.configure

    def configured(self, *arguments, **named):
        named["region_invalidator"] = (
            named.get("region_invalidator") or ShmMapInvalidation(self)
        )
        return configure(self, *arguments, **named)

    monkeypatch.setattr(region, "configure", configured)
    yield
    while _made:
        made = _made.pop()
        made.map.unlink()
        made.map.close()
