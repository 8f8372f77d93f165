"""get_or_set: a value is computed once and stored; what cannot be stored reaches its caller."""

from __future__ import annotations

import asyncio
import re
import signal
import threading
from typing import Any

import pytest

import shmmap


def test_a_value_is_computed_once_and_stored(make):
    m = make()
    calls: list[int] = []

    def factory() -> str:
        calls.append(1)
        return "value"

    assert [m.get_or_set("k", factory, ttl=60) for _ in range(3)] == ["value"] * 3
    assert calls == [1] and m["k"] == "value" and 59 < (m.ttl("k") or 0) <= 60
    assert m.attachment.locks.count() == 0


@pytest.mark.parametrize("value", [None, False, 0, "", b"", [], {"a": 1}])
def test_any_value_counts(make, value):
    m = make()
    assert m.get_or_set("k", lambda: value) == value
    assert m.get_or_set("k", lambda: 1 / 0) == value


def test_a_default_ttl_is_the_maps(make):
    m = make(ttl=30)
    m.get_or_set("k", int)
    assert 29 < (m.ttl("k") or 0) <= 30
    m.get_or_set("for ever", int, ttl=None)
    assert m.ttl("for ever") is None


@pytest.mark.parametrize(("parameters", "error"), [
    ({"stale": 5}, ValueError), ({"stale": 5, "ttl": None}, ValueError),
    ({"stale": -1, "ttl": 5}, ValueError), ({"stale": "1", "ttl": 5}, TypeError),
    ({"stale": True, "ttl": 5}, TypeError), ({"stale": 1, "ttl": "5"}, TypeError),
    ({"timeout": -1}, ValueError), ({"ttl": "5"}, TypeError),
])
def test_bad_arguments(make, parameters, error):
    m = make()
    with pytest.raises(error):
        m.get_or_set("k", int, **parameters)
    assert "k" not in m and m.attachment.locks.count() == 0


def test_a_factory_must_be_callable(make):
    m = make()
    m["k"] = 1
    with pytest.raises(TypeError, match="factory"):
        m.get_or_set("k", 5)


def test_an_error_reaches_its_caller_and_the_next_one_tries(make):
    m = make()
    with pytest.raises(ZeroDivisionError):
        m.get_or_set("k", lambda: 1 / 0)
    assert m.get_or_set("k", lambda: 2) == 2


def test_what_cannot_be_stored_reaches_its_caller(make, caplog):
    m = make()
    big = bytes(10**7)
    assert m.get_or_set("k", lambda: big) is big
    assert "EntryTooLarge" in caplog.text and caplog.records[0].pathname == __file__
    assert "k" not in m and m.get_or_set("k", lambda: big) is big
    assert m.get_or_set("k", lambda: 1) == 1 == m["k"] and len(caplog.records) == 1  # told once
    assert m.stats().uncached == {"too_large": 2} and m.stats().uncached_total == 2


def lock_of_sorts() -> Any:
    """Make what does not pickle."""
    return threading.Lock()


@pytest.mark.parametrize(("error", "value", "parameters"), [
    ("TypeError", threading.Lock(), {}), ("TypeError", {1, 2j}, {"codec": "safe"}),
    ("AttributeError|PicklingError", lock_of_sorts.__class__(
        (lambda: 0).__code__, {}, "no such name"), {}),
])
def test_so_does_what_does_not_pickle(make, error, value, parameters, caplog):
    m = make(**parameters)
    assert m.get_or_set("k", lambda: value) is value
    assert "k" not in m and m.stats().uncached == {"not_picklable": 1}
    assert re.search(error, caplog.text)
    with pytest.raises(Exception, match="pickle"):
        m.get_or_set("k", lambda: value, strict=True)


def test_and_what_finds_no_room(make):
    m = make(size="300KB", shards=1)
    with pytest.raises(shmmap.MapFull):
        for number in range(10**5):
            m[number] = bytes(100)
    assert m.get_or_set("k", lambda: "x" * 200) == "x" * 200
    with pytest.raises(shmmap.MapFull):
        m.get_or_set("k", lambda: "x" * 200, strict=True)
    assert m.stats().uncached == {"full": 1}
    m.clear()
    assert m.get_or_set("k", lambda: "y") == "y" == m["k"]


def test_what_is_no_ttl_is_told_before_anything_is_computed(make):
    m = make()
    for ttl, error in (("1", TypeError), (True, TypeError), (float("nan"), ValueError)):
        with pytest.raises(error, match="ttl"):
            m.get_or_set("k", lambda: 1 / 0, ttl)


def test_a_key_longer_than_any_is_computed_each_time(make):
    m = make()
    assert m.get_or_set("k" * 70_000, lambda: 1) == 1
    assert m.stats().uncached == {"too_large": 1}


class Gone:
    """A class that is removed after an instance was stored."""


def test_a_value_that_cannot_be_unpickled_any_more_is_computed_anew(make, monkeypatch, caplog):
    m = make()
    m["k"], m["other"] = Gone(), Gone()
    with monkeypatch.context() as patch:
        patch.delitem(globals(), "Gone")
        assert m.get_or_set("k", lambda: 5, strict=True) == 5
        assert m["k"] == 5 and re.search("'k' cannot be unpickled here.*Gone", caplog.text)
        assert m.get_or_set("other", lambda: 6, ttl=60, stale=5) == 6
        with pytest.raises(TypeError):
            m.get_or_set([], lambda: 6)
    assert m.stats().uncached == {"unreadable": 2} and len(caplog.records) == 1


def test_what_a_signal_handler_raises_in_a_read_is_not_swallowed(make, monkeypatch):
    m = make()
    m["k"] = 5
    real = m.get
    raised: list[int] = []

    def get(*given: Any) -> Any:
        if not raised:
            raised.append(1)
            raise TimeoutError
        return real(*given)

    m.get = get
    with pytest.raises(TimeoutError):
        m.get_or_set("k", lambda: 6)


class Interrupted:
    """A result whose first pickling meets something."""

    def __init__(self, meets: Any) -> None:
        self.meets, self.times = meets, 0

    def __reduce__(self) -> Any:
        self.times += 1
        return self.meets() if self.times == 1 else (int, (5,))


class SoftTimeLimit(Exception):
    """As a task queue's handler of a signal raises it."""


def raised_by_a_signal() -> None:
    signal.raise_signal(signal.SIGUSR1)


@pytest.mark.parametrize("kind", [SoftTimeLimit, TimeoutError, KeyboardInterrupt])
@pytest.mark.parametrize("way", ["get_or_set", "cached", "cached coroutine"])
def test_what_a_signal_handler_raises_while_the_result_is_stored_is_not_swallowed(make, kind, way):
    def handler(*_: Any) -> None:
        raise kind

    async def compute() -> Interrupted:
        return Interrupted(raised_by_a_signal)

    m = make()
    key: Any = lambda: "k"  # noqa: E731
    act: dict[str, Any] = {
        "get_or_set": lambda: m.get_or_set("k", lambda: Interrupted(raised_by_a_signal)),
        "cached": shmmap.cached(m, key=key)(lambda: Interrupted(raised_by_a_signal)),
        "cached coroutine": lambda: asyncio.run(shmmap.cached(m, key=key)(compute)()),
    }
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(kind):
            act[way]()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert m.stats().uncached == {} and m.attachment.locks.count() == 0


def test_a_result_that_changed_while_it_was_pickled_reaches_its_caller(make):
    m = make()
    value = Interrupted(lambda: 7)  # which pickle itself refuses, as a dict that grows meanwhile
    assert m.get_or_set("k", lambda: value) is value
    assert m.stats().uncached == {"not_picklable": 1}


def test_a_factory_may_ask_for_other_keys_and_not_for_its_own(make):
    m = make()
    assert m.get_or_set("a", lambda: m.get_or_set("b", lambda: 2) + 1) == 3
    with pytest.raises(shmmap.Reentered):
        m.get_or_set("c", lambda: m.get_or_set("c", lambda: 2))
    assert m.get_or_set("c", lambda: 4) == 4
