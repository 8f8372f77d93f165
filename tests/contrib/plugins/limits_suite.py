"""limits' own tests, run against our storages in the place of the memory storages.

The clock is one that only `sleep`, and each look at it, moves: they sleep for half a minute
otherwise. The clients of servers that they import are not needed: no test of these is run.
"""

import asyncio
import importlib
import inspect
import os
import sys
import time
from math import ceil
from unittest import mock

import limits.aio.storage
import limits.storage
import pytest

import shmmap
from shmmap.contrib import limits as ours
from shmmap.lifecycle import headers

NAME = f"suite-{os.getpid()}"
sleep, maps, now = asyncio.sleep, [], [1.8e9 + 0.25]
headers.CLOCK.frozen_ns = int(now[0] * 1e9)  # the maps are not as old as that
for client in ("pymemcache", "pymemcache.client", "pymongo", "redis", "redis.sentinel", "valkey",
               "pytest_lazy_fixtures"):
    try:
        importlib.import_module(client)
    except ImportError:
        sys.modules[client] = mock.MagicMock()


class Instead:
    def __init__(self, uri=None, wrap_exceptions=False, **options):
        super().__init__(f"shmmap://{NAME}?size=4MB", wrap_exceptions, **options)
        maps.append(self.map)
        advance(0)


class Ours(Instead, ours.ShmMapStorage):
    STORAGE_SCHEME = ["memory"]  # noqa: RUF012


class AsyncOurs(Instead, ours.AsyncShmMapStorage):
    STORAGE_SCHEME = ["async+memory"]  # noqa: RUF012


limits.storage.MemoryStorage = Ours
limits.aio.storage.MemoryStorage = AsyncOurs


def advance(seconds):
    now[0] += seconds
    for m in maps:
        m.attachment.clock.frozen_ns = ceil(now[0] * 64) * 10**9 // 64  # a tick: there they expire
    return now[0]


async def aadvance(seconds):
    advance(seconds)
    await sleep(0)


def pytest_addoption(parser):
    parser.addini("asyncio_mode", "of a plugin that is not used")


def pytest_configure(config):
    for mark in ("asyncio", "flaky"):
        config.addinivalue_line("markers", f"{mark}: of a plugin that is not used")


def pytest_pyfunc_call(pyfuncitem):
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        names = inspect.signature(pyfuncitem.obj).parameters
        asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
        return True


@pytest.fixture(autouse=True)

def map_and_clock(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: advance(1e-6))
    monkeypatch.setattr(time, "sleep", advance)
    monkeypatch.setattr(asyncio, "sleep", aadvance)
    yield
    maps.clear()
    shmmap.unlink(NAME, missing_ok=True)
