"""Re-entry of the map from handlers and finalizers, and KeyboardInterrupt at any moment."""

from __future__ import annotations

import gc
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

import shmmap

from ..support.shard0 import GOT_IT, PURE, K, lock_of, token


def test_reentry_by_the_holding_thread_is_refused(make):
    """What a signal handler or finalizer in the middle of a change meets."""
    m = make(shards=1, lock_timeout=5)
    m["a"] = 1
    inner: list[Any] = []
    if PURE:
        _from_within_a_change(m, lambda: _note(inner, lambda: m.set("b", 2)))
    else:
        _hold_as_this_thread(m, lambda: _note(inner, lambda: m.set("b", 2)))
    assert [type(error) for error in inner] == [shmmap.Reentered], inner
    assert "signal handler" in str(inner[0]) and repr(m.name) in str(inner[0])
    m["b"] = 3
    assert m["b"] == 3 and m.check() == []


def _note(noted: list[Any], operation: Callable[[], Any]) -> None:
    """Run an operation and keep its error or result."""
    started = time.monotonic()
    try:
        noted.append(operation())
    except Exception as error:
        noted.append(error)
    assert time.monotonic() - started < 1.0, "a re-entry waited"


def _from_within_a_change(m: Any, act: Callable[[], None]) -> None:
    """Pure engine: act in the middle of a change, once."""
    from shmmap.shard import _shard_cy

    original = _shard_cy.store
    try:
        def store(mem: Any, at: int, value: int) -> None:
            original(mem, at, value)
            if at == K["S_DIRTY"] and value:
                _shard_cy.store = original
                act()

        _shard_cy.store = store
        m["a"] = 1
    finally:
        _shard_cy.store = original


def _hold_as_this_thread(m: Any, act: Callable[[], None]) -> None:
    """Act while this very thread holds shard 0's lock: its number is found by trying."""
    word = m.attachment.worker.fork_page.word
    with shmmap.ShmMap.attach(m.name, lock_timeout=0.01) as trying:
        for thread in range(1, 4096):
            assert lock_of(m).lock(word | thread, 10**9) in GOT_IT
            try:
                trying["tried"] = thread
            except shmmap.Reentered:
                break
            except shmmap.LockTimeout:
                lock_of(m).unlock()
    act()
    lock_of(m).unlock()


OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "set": lambda m: m.set("a", 2), "delete": lambda m: m.delete("a"),
    "incr": lambda m: m.incr("a"), "pop": lambda m: m.pop("a"),
    "touch": lambda m: m.touch("a", 9),
    "popitem": lambda m: m.popitem(), "clear": lambda m: m.clear(),
    "check": lambda m: m.check(), "repair": lambda m: m.repair(),
    "setdefault": lambda m: m.setdefault("new", 1), "cas": lambda m: m.cas("a", 1, 5),
}


@pytest.mark.skipif(not PURE, reason="no Python code runs inside the compiled engine's changes")
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("way", ["signal", "finalizer"])
def test_reentry_from_handlers_and_finalizers(make, operation, way):
    m = make(shards=1, lock_timeout=5)
    m["a"] = 1
    noted: list[Any] = []

    class Finalized:
        def __del__(self) -> None:
            _note(noted, lambda: OPERATIONS[operation](m))

    def handle(number: int, frame: Any) -> None:
        _note(noted, lambda: OPERATIONS[operation](m))

    def act() -> None:
        if way == "signal":
            signal.raise_signal(signal.SIGUSR1)
        else:
            cycle = [Finalized()]
            cycle.append(cycle)  # type: ignore[arg-type]
            del cycle
            gc.collect()

    previous = signal.signal(signal.SIGUSR1, handle)
    try:
        _from_within_a_change(m, act)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert [type(error) for error in noted] == [shmmap.Reentered], noted
    assert m["a"] == 1 and m.check() == []
    started = time.monotonic()
    m.close()
    assert time.monotonic() - started < 1.0, "the refused operation still counts as in flight"
    assert m.closed


def test_readers_may_run_inside_a_change(make):
    """A get in a handler takes no lock, so it is no re-entry."""
    m = make(shards=1)
    m["a"] = 1
    noted: list[Any] = []
    if PURE:
        _from_within_a_change(m, lambda: _note(noted, lambda: m.get("a")))
    else:
        assert lock_of(m).lock(token(m), 10**9) in GOT_IT
        _note(noted, lambda: m.get("a"))
        lock_of(m).unlock()
    assert noted == [1]


def interrupt_at_random(m: Any, seed: int) -> tuple[int, int]:
    """Work for a second while a timer raises KeyboardInterrupt; return how often, and the work."""
    rng = random.Random(seed)
    inside = interrupted = done = 0

    def handle(number: int, frame: Any) -> None:
        if inside:
            raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, handle)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        try:
            inside = 1
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(50e-6, 2e-3))
            for i in range(200):
                m[f"k{i % 7}"] = bytes([i & 7]) * (i * 37 % 2000)
                m.incr("n")
                m.delete(f"k{i % 5}")
                done += 1
            inside = 0
        except KeyboardInterrupt:
            inside = 0
            interrupted += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    return interrupted, done


@pytest.mark.parametrize("seed", range(3))
def test_interrupts_at_any_moment(make, start, seed):
    """Ctrl-C in the middle of operations: the map stays whole, and this process can go on."""
    m = make(size="256KB", shards=1, lock_timeout=1)

    def work(child: Any) -> tuple[int, int]:
        interrupted, done = interrupt_at_random(m, seed)
        m["last"] = done
        assert m.check() == []
        return interrupted, done

    interrupted, done = start(work).result()
    assert interrupted > 50, (seed, interrupted, done)
    m["after"] = 1
    assert m["last"] == done and m.check() == []
