"""aiocache's acceptance tests of its memory cache, run against ours.

They sleep for ttls. So the event loop is one whose time passes only while nothing else is to do,
and then at once, and each map's clock goes with it. That loop also stands for pytest-asyncio, and
`mocker` for pytest-mock.
"""

import asyncio
import contextlib
import inspect
import itertools
import json
import os
import selectors
import sys
import types
from unittest import mock

import aiocache.backends.memory
import pytest
from aiocache.factory import Cache

from shmmap.contrib.aiocache import ShmMapCache

_numbers = itertools.count()
_made = []


class Ours(ShmMapCache):
    """A map of its own each time, with what the tests look at beside the interface."""

    NAME = "memory"

    def __init__(self, **options):
        name = f"suite-{os.getpid()}-{next(_numbers)}"
        super().__init__(name, size="1MB", sweep_interval=None, **options)
        _made.append(self)
        self.clock = self.map.attachment.clock
        self.clock.frozen_ns = self.clock.now_ns()

    @property
    def _cache(self):
        return self.map

    @_cache.setter
    def _cache(self, entries):
        self.map.clear()
        self.map.update(entries)


TICK_NS = 10**9 // 64  # an entry expires with the tick that its ttl ends in
aiocache.SimpleMemoryCache = aiocache.backends.memory.SimpleMemoryCache = Ours
aiocache.AIOCACHE_CACHES["memory"] = Cache.MEMORY = Ours
Cache.__new__.__defaults__ = (Ours,)


class Schema:
    """What one test takes of marshmallow."""

    def dumps(self, thing):
        return json.dumps(vars(thing))

    def loads(self, text):
        return self.build_my_type(json.loads(text))


sys.modules["marshmallow"] = types.ModuleType("marshmallow")
vars(sys.modules["marshmallow"]).update(
    Schema=Schema, fields=types.SimpleNamespace(Integer=int), post_load=lambda function: function
)


class Skipping(selectors.DefaultSelector):
    """Waits for nothing: time passes instead."""

    now = 0.0

    def select(self, timeout=None):
        if timeout and timeout > 0:
            self.now += timeout
            for cache in _made:
                cache.clock.frozen_ns += round(timeout * 1e9) + TICK_NS
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    def __init__(self):
        self._time = Skipping()
        super().__init__(self._time)

    def time(self):
        return self._time.now


_loop = Loop()


def pytest_addoption(parser):
    parser.addini("asyncio_mode", "of pytest-asyncio, which is not here")


def pytest_unconfigure():
    _loop.close()


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef):
    """Make a plain fixture of an asynchronous one."""
    function = fixturedef.func
    if inspect.isasyncgenfunction(function):
        def made(**arguments):
            steps = function(**arguments)
            yield _loop.run_until_complete(steps.__anext__())
            with contextlib.suppress(StopAsyncIteration):
                _loop.run_until_complete(steps.__anext__())

        fixturedef.func = made


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run a test that is a coroutine function."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    _loop.run_until_complete(pyfuncitem.obj(**arguments))
    return True


class Mocker:
    """What the tests use of pytest-mock."""

    def __init__(self, stack):
        def patch(*given, **named):
            return stack.enter_context(mock.patch(*given, **named))

        def patch_object(*given, **named):
            return stack.enter_context(mock.patch.object(*given, **named))

        self.patch = patch
        patch.object = patch_object

    def spy(self, thing, name):
        return self.patch.object(thing, name, side_effect=getattr(thing, name), autospec=True)


@pytest.fixture
def mocker():
    with contextlib.ExitStack() as stack:
        yield Mocker(stack)


@pytest.fixture(autouse=True)
def no_map_is_left():
    yield
    while _made:
        cache = _made.pop()
        cache.map.unlink()
        cache.map.close()
