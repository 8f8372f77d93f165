"""A map that is in trouble fails no call of get_or_set, nor of a cached function."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import shmmap
from shmmap.locks import single_flight

from ..support.damage import Damage
from ..support.programs import run_code
from .test_stop import hold_and_halt


def ways(m: Any, **parameters: Any) -> dict[str, Callable[[], Any]]:
    """List the ways to have a value computed for a map."""
    async def later() -> str:
        return "computed"

    decorate: Any = shmmap.cached(m, prefix="here", **parameters)
    waited = decorate(later)
    return {
        "get_or_set": lambda: m.get_or_set("k", lambda: "computed", **parameters),
        "stale": lambda: m.get_or_set("k", lambda: "computed", ttl=5, stale=5, **parameters),
        "cached": decorate(lambda: "computed"),
        "refresh": decorate(lambda: "computed").refresh,
        "coroutine": lambda: asyncio.run(waited()),
        "refresh coroutine": lambda: asyncio.run(waited.refresh()),
    }


WAYS = ["get_or_set", "stale", "cached", "refresh", "coroutine", "refresh coroutine"]


@pytest.mark.parametrize("inside", [False, True], ids=["a writer", "in the flip"])
@pytest.mark.parametrize("way", WAYS)
def test_a_stopped_writer(make, start, way, inside):
    m = make(shards=1, lock_timeout=0.2)
    m["held"] = 1
    child = start(lambda child: hold_and_halt(child, m, inside, signal.SIGSTOP))
    child.hear()
    child.wait_stopped()
    began = time.monotonic()
    assert ways(m)[way]() == "computed"
    assert time.monotonic() - began < 5
    assert m.stats().uncached == {"busy": 1}
    with pytest.raises(shmmap.LockTimeout):
        ways(m, strict=True)[way]()
    child.go_on()
    assert child.result() is None
    assert ways(m)[way]() == "computed" and m.stats().uncached == {"busy": 1}
    child.reap()


@pytest.mark.parametrize("way", WAYS)
def test_damaged_memory(make, way, caplog):
    m = make(shards=1)
    m.set_many({f"k{i}": i for i in range(20)})
    act = ways(m)[way]
    act()
    damage = Damage(m)
    for slot in damage.live():
        damage.words[damage.slot_word(slot, 8)] = (1 << 64) - 1  # lengths, types
    assert act() == "computed"
    assert set(m.stats().uncached) <= {"corrupted"}, "or a repair has dropped what was damaged"
    m.repair()
    assert act() == "computed" and m.check() == []


@pytest.mark.parametrize("kind", [
    shmmap.MapCorrupted, shmmap.SystemCallError, shmmap.WorkersFull, shmmap.MapFull,
])
@pytest.mark.parametrize("way", WAYS)
def test_a_lock_shard_in_trouble(make, way, kind, monkeypatch):
    def fail(*_: Any) -> None:
        raise kind("of the lock shard")

    monkeypatch.setattr(single_flight, "try_hold", fail)
    m = make()
    act = ways(m)[way]
    assert act() == act() == "computed"
    assert m.stats().uncached == {} and len(m) in (1, 2), "it is computed, and stored"


@pytest.mark.parametrize("way", ["get_or_set", "cached"])
def test_a_value_that_was_read_stands_though_its_time_cannot_be_told(make, way):
    m = make()
    calls: list[int] = []
    f: Any = shmmap.cached(m, ttl=5, stale=5, prefix="f")(lambda: calls.append(1) or "computed")
    act = f if way == "cached" else (
        lambda: m.get_or_set("k", lambda: calls.append(1) or "computed", ttl=5, stale=5)
    )
    act()

    def busy(key: Any) -> None:
        raise shmmap.ShardBusy("just now")

    m.ttl = busy
    assert act() == "computed" and calls == [1] and m.stats().uncached == {}


@pytest.mark.parametrize("way", WAYS)
def test_a_map_that_was_unlinked(make, way, caplog):
    m = make(on_unlinked="raise")
    m.unlink()
    act = ways(m)[way]
    assert act() == act() == "computed"
    assert m.__dict__["_notes"].times() == {"unlinked": 2}
    assert "MapUnlinked" in caplog.text and m.name in caplog.text
    with pytest.raises(shmmap.MapUnlinked):
        ways(m, strict=True)[way]()


@pytest.mark.parametrize("way", WAYS)
def test_a_closed_handle_is_a_mistake_in_the_program(make, way):
    m = make()
    act = ways(m)[way]
    m.close()
    with pytest.raises(shmmap.MapClosed, match=m.name):
        act()


def test_a_handle_that_is_closed_while_the_value_is_computed(make, caplog):
    m = make()

    def compute() -> str:
        m.close()
        return "computed"

    assert m.get_or_set("k", compute) == "computed"
    assert "MapClosed" in caplog.text
    n = make(on_unlinked="raise")
    assert n.get_or_set("k", lambda: n.unlink() or "computed") == "computed"
    with pytest.raises(shmmap.MapClosed):
        m.get_or_set("k", compute, strict=True)


def test_of_many_threads_each_reason_is_told_once(make, caplog):
    m = make()

    def work() -> None:
        for number in range(50):
            m.get_or_set(f"k{number}", lambda: bytes(10**6 * 8))
            m.get_or_set(f"n{number}", threading.Lock)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert m.stats().uncached == {"too_large": 200, "not_picklable": 200}, "the counts are exact"
    assert m.stats().uncached_total == 400
    assert 2 <= len(caplog.records) <= 8  # by threads that began in one moment
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


ON_FULL = """
import sys, shmmap
assert "logging" not in sys.modules
m = shmmap.ShmMap(sys.argv[1], size="300KB", shards=1)
try:
    for number in range(10**5):
        m[number] = bytes(100)
except shmmap.MapFull:
    pass

@shmmap.cached(m, ttl=60)
def page(number):
    return "x" * number

for number in range(1, 200):
    assert page(number) == "x" * number == m.get_or_set(("p", number), lambda: "x" * number)
assert m.stats().uncached["full"] == 398 == m.stats().uncached_total
m.unlink()
print("served")
"""


def test_a_service_that_makes_errors_of_warnings_goes_on_with_a_full_map(name):
    code = f"import sys; sys.argv[1:] = [{name!r}]\n{ON_FULL}"
    ran = run_code(code, env={**os.environ, "PYTHONWARNINGS": "error"})
    assert ran.stdout == "served\n" and ran.returncode == 0, ran.stderr
    assert ran.stderr.count("MapFull") == 2, "once a handle, once a function"


NO_LOGGING = """
import sys, shmmap
m = shmmap.ShmMap(sys.argv[1], size="1MB")

class Refuse:
    def find_spec(self, name, *rest):
        raise ImportError(f"an import of {name}")

sys.meta_path.insert(0, Refuse())
assert len(m.get_or_set("k", lambda: bytes(10**7))) == 10**7
assert m.stats().uncached == {"too_large": 1}
m.unlink()
"""


def test_a_process_that_can_import_nothing_any_more(name):
    ran = run_code(f"import sys; sys.argv[1:] = [{name!r}]\n{NO_LOGGING}")
    assert (ran.returncode, ran.stderr) == (0, "")


OLD = """
import sys, types, shmmap
app = sys.modules["app"] = types.ModuleType("app")
exec("class Session:\\n    def __init__(self, user): self.user = user", app.__dict__)
m = shmmap.ShmMap(sys.argv[1], size="1MB")
"""


def test_two_releases_at_once(name):
    """The old one stores a class that the new one does not have; nothing of it is lost."""
    with shmmap.ShmMap(name, size="1MB") as m:
        store = OLD + "m.update({n: app.Session(n) for n in range(20)}); m['plain'] = 1"
        assert run_code(store, name).returncode == 0
        found: dict[Any, Any] = {}
        for _ in range(100):
            try:
                found |= [m.popitem()]
            except (shmmap.ValueUnreadable, KeyError):
                continue
        assert found == {"plain": 1} and sorted(m) == list(range(20))
        for take in (m.pop, m.get, m.__getitem__, m.get_versioned):
            with pytest.raises(shmmap.ValueUnreadable, match="No module named 'app'"):
                take(7)
        assert m.get_many(range(20), on_unreadable="skip") == {}
        assert m.get_or_set(7, lambda: "of the new release") == "of the new release" == m[7]
        read = OLD + (
            "assert [m.pop(n).user for n in range(20) if n != 7] == [*range(7), *range(8, 20)]\n"
            "print(dict(m))"
        )
        ran = run_code(read, name)
        assert ran.stdout == "{7: 'of the new release'}\n", ran.stderr
        m.unlink()


@pytest.mark.skipif(shmmap.ENGINE != "pure", reason="compiled functions have no lines")
def test_a_signal_handler_in_the_middle_of_a_change(make):
    """The call of a handler that interrupts this very thread in the shard gets its value."""
    m = make(shards=1)
    m["k"] = 1
    results: list[Any] = []

    def profile(frame: Any, event: str, arg: Any) -> None:
        if event == "call" and frame.f_code.co_name == "put" and not results:
            results.append(None)
            results[0] = m.get_or_set("other", lambda: "computed")

    sys.setprofile(profile)
    try:
        m["k"] = 2
    finally:
        sys.setprofile(None)
    assert m["k"] == 2
    assert results == ["computed"] and m.check() == [] and m.stats().uncached == {"busy": 1}


def test_a_map_that_is_unlinked_while_another_one_computes(make, start):
    """Whoever waits computes for itself: the wait is no call that may fail."""
    m = make(on_unlinked="raise")

    def compute(child: Any) -> None:
        m.get_or_set("k", lambda: (child.tell("computing"), child.hear()) and "theirs")

    child = start(compute)
    child.hear()
    unlinking = threading.Timer(0.3, m.unlink)
    unlinking.start()
    assert m.get_or_set("k", lambda: "computed") == "computed"
    unlinking.join()
    assert m.__dict__["_notes"].times().keys() == {"unlinked"}
    child.kill()
