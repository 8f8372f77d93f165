"""Every error: documented, exported, raised somewhere, and where Python expects it."""

from __future__ import annotations

import inspect
import re
import threading
from functools import partial
from pathlib import Path

import pytest

import shmmap
from shmmap import errors

CLASSES = [found for _, found in inspect.getmembers(errors, inspect.isclass)]
CLASSES = [found for found in CLASSES if not issubclass(found, Warning)]
CLASSES.sort(key=lambda error: error is shmmap.ShmMapError)  # the base of all comes last
PACKAGE = Path(shmmap.__file__).parent


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_an_error_is_documented_and_exported(error):
    assert issubclass(error, shmmap.ShmMapError)
    assert getattr(shmmap, error.__name__) is error
    assert error.__name__ in shmmap.__all__
    doc = error.__dict__.get("__doc__")
    assert doc and len(doc) > 40 and doc.rstrip().endswith(".")


@pytest.mark.parametrize("error", CLASSES[:-1], ids=lambda error: error.__name__)
def test_an_error_is_raised_somewhere(error):
    sources = [file.read_text() for file in PACKAGE.rglob("*.py") if file.name != "errors.py"]
    assert any(re.search(rf"(raise|return|=) {error.__name__}\(", source) for source in sources)


def test_errors_are_what_python_expects_too():
    for error, base in (
        (shmmap.LockTimeout, TimeoutError), (shmmap.ShardBusy, shmmap.LockTimeout),
        (shmmap.EntryTooLarge, ValueError), (shmmap.SharedMemoryFull, MemoryError),
        (shmmap.Reentered, RuntimeError), (shmmap.MapClosed, ValueError),
    ):  # fmt: skip
        assert issubclass(error, base)
    assert not issubclass(shmmap.MapFull, OSError)


def test_every_operation_of_a_closed_handle_is_refused(make):
    m = make()
    other = make()
    m["k"] = 1
    m.close()
    m.close()
    for use in (
        lambda: m["k"], lambda: m.get("k"), lambda: "k" in m, lambda: len(m), lambda: list(m),
        lambda: m.set("k", 2), lambda: m.add("x", 2), lambda: m.delete("k"), m.popitem, m.clear,
        lambda: m.incr("n"), lambda: m.touch("k", 1), lambda: m.ttl("k"), m.stats, m.check,
        m.sweep, m.repair, lambda: m.get_versioned("k"), lambda: m.setdefault("k", 1),
        lambda: list(m.items()), lambda: m | {}, m.unlink,
    ):  # fmt: skip
        with pytest.raises(shmmap.MapClosed, match=m.name):
            use()
    assert other == {"k": 1}


def test_every_operation_on_an_unlinked_map_is_refused(make):
    m = make()
    m["k"] = 1
    m.unlink()
    for use in (
        lambda: m["k"], lambda: m.get("k"), lambda: "k" in m, lambda: len(m), lambda: list(m),
        lambda: m.set("k", 2), lambda: m.delete("k"), m.popitem, m.clear, lambda: m.incr("n"),
    ):  # fmt: skip
        with pytest.raises(shmmap.MapUnlinked, match=m.name):
            use()
    assert make() == {}, "the name is free for a successor"


def test_a_map_that_could_not_be_opened_counts_as_closed(name):
    """Whoever reports the error may print the half-made object. Using it is an error, no crash."""
    m = shmmap.ShmMap.__new__(shmmap.ShmMap)
    with pytest.raises(shmmap.MapNotFound):
        m.__init__(name, _may=(False, True))
    assert "never opened" in repr(m) and m.closed
    m.close()
    for operation in (m.stats, m.unlink, m.clear, lambda: m.get(1), lambda: m.set(1, 1),
                      lambda: m.delete(1), lambda: m.incr(1), lambda: len(m), lambda: list(m),
                      lambda: 1 in m):
        with pytest.raises((shmmap.MapClosed, TypeError, AttributeError)):
            operation()


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_no_memory_for_a_lock_is_said_so(make, name, monkeypatch, kind):
    """Python says it by a RuntimeError."""
    def refuse() -> None:
        raise RuntimeError("can't allocate lock")

    m = make(shards=1)
    m["a"] = 1
    with monkeypatch.context() as patch:
        patch.setattr(threading, kind, refuse)
        opening = partial(shmmap.ShmMap, f"{name}-other", size="1MB", ttl=1)
        for use in (opening, m.stats if kind == "Lock" else opening):
            with pytest.raises(MemoryError):
                use()
    assert m.stats().entries == 1 and m.check() == []
    with opening() as other:
        other.unlink()
