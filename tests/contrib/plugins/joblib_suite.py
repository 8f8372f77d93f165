"""joblib's own tests of Memory, run with our store in place of its files."""

import asyncio
import inspect
import itertools
import os

import joblib.memory
import pytest

import shmmap
from shmmap.contrib.joblib import ShmMapStoreBackend

_numbers = itertools.count()
_made = []


class Ours(ShmMapStoreBackend):
    """A part of the test's map; there at once, as some tests do not configure it."""

    name = ""

    def __init__(self):
        self.folders = set()  # which joblib's own store makes, and tests look for
        super().configure("suite", backend_options={"name": self.name, "size": "4MB"})
        _made.append(self)

    def configure(self, location, verbose=1, backend_options=None):
        self.map.close()
        options = {"name": self.name, "size": "4MB", **(backend_options or {})}
        super().configure(location, verbose, options)

    def store_cached_func_code(self, call_id, func_code=None):
        self.folders.add(os.path.join(*call_id))
        super().store_cached_func_code(call_id, func_code)

    def clear(self):
        self.folders.clear()
        super().clear()


joblib.memory._STORE_BACKENDS["local"] = Ours


def under(path):
    """Return {path below: value} of what the stores have there, and the store's own file."""
    found = {}
    for made in _made:
        if not made.map.closed:
            for key in [*made.part.keys(), *made.folders]:
                whole = os.path.join(made.location, key)
                if f"{whole}/".startswith(f"{os.fspath(path)}/"):
                    found[os.path.relpath(whole, path)] = made.part.get(key)
    return found


class Paths:
    """Stands for the module `os.path`."""

    def __getattr__(self, name):
        return getattr(os.path, name)

    def exists(self, path):
        return bool(under(path)) or os.path.exists(path)

    def getsize(self, path):
        return len(under(path)["."])


class Files:
    """Stands for the module `os` where tests look at the files."""

    path = Paths()

    def __getattr__(self, name):
        return getattr(os, name)

    def listdir(self, path):
        return sorted({below.split("/")[0] for below in under(path)} - {"."})

    def remove(self, path):
        for made in _made:
            made.part.delete(made._key(path))


@pytest.fixture(autouse=True)
def shmmap_instead(request, monkeypatch):
    """Have a map of its own for each test."""
    monkeypatch.setattr(Ours, "name", f"suite-{os.getpid()}-{next(_numbers)}")
    monkeypatch.setattr(request.module, "FileSystemStoreBackend", Ours, raising=False)
    monkeypatch.setattr(request.module, "os", Files(), raising=False)
    monkeypatch.setattr(request.module, "corrupt_single_cache_item", corrupt, raising=False)
    yield
    while _made:
        _made.pop().map.close()
    shmmap.unlink(Ours.name, missing_ok=True)


def corrupt(memory):
    """Damage the one result that there is."""
    (item,) = memory.store_backend.get_items()
    memory.store_backend.part.set(f"{memory.store_backend._key(item.path)}/output.pkl", b"garbage")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run a test that is a coroutine function; this stands for pytest-asyncio."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(pyfuncitem.obj(**arguments))
    return True
