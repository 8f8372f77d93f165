"""Flask-Caching's tests of SimpleCache, run against ours."""

import itertools
import os

import pytest

import shmmap

_numbers = itertools.count()
BACKEND = "shmmap.contrib.flask_caching.ShmMapCache"


@pytest.fixture(autouse=True)
def shmmap_instead(request, monkeypatch):
    """Have each test's cache be a map of its own, and the test's clock move that map's."""
    name = f"suite-{os.getpid()}-{next(_numbers)}"
    if "app" in request.fixturenames:
        app = request.getfixturevalue("app")
        app.config |= {"CACHE_TYPE": BACKEND, "CACHE_OPTIONS": {"name": name, "size": "1MB"}}
    if "clock" in request.fixturenames:
        clock = request.getfixturevalue("clock")
        advance = clock.advance

        def advance_both(seconds):
            advance(seconds)
            with shmmap.ShmMap.attach(name) as m:
                now = m.attachment.clock
                now.frozen_ns = now.now_ns() + int(seconds * 1e9) + 10**9 // 64  # a tick

        monkeypatch.setattr(clock, "advance", advance_both)
    yield
    shmmap.unlink(name, missing_ok=True)
