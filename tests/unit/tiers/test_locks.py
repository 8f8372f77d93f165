"""Locks and single flight of several machines."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from shmmap import LockLost, LockTimeout, Reentered, ShmMap, StoreUnavailable, Tiered
from shmmap.testing import LocalStore

from .conftest import until


def test_one_machine_has_it(tiers, store):
    one, other = tiers(store), tiers(store)
    with one.lock("a") as mine:
        assert mine.held and mine.token > 0
        assert not other.lock("a").acquire(timeout=0.05)
        with other.lock("b"):
            pass
        with pytest.raises(LockTimeout, match=r"not free within 0\.05 s"):
            other.lock("a", timeout=0.05).__enter__()
        with pytest.raises(Reentered):
            one.lock("a").acquire(timeout=1)
        first = mine.token
    assert not mine.held and mine.token == 0
    with other.lock("a") as theirs:
        assert theirs.token > first
    with pytest.raises(LockLost, match="not taken"):
        mine.release()
    for lease in (0, 1e9):
        with pytest.raises(ValueError):
            one.lock("a", lease=lease)


def test_of_one_machine_one_process_has_it(tiers, store):
    one = tiers(store)
    other = tiers(store, ShmMap(one.map.name))
    taken = threading.Event()
    end = threading.Event()

    def hold() -> None:
        with one.lock("a"):
            taken.set()
            end.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(10) and not other.lock("a").acquire(timeout=0.05)
    end.set()
    with other.lock("a", timeout=10):
        pass
    thread.join()


def test_the_lease_is_renewed_as_long_as_its_holder_lives(tiers, running):
    one, other = tiers(running.client()), tiers(running.client())
    with one.lock("renewed", lease=0.3) as mine:
        time.sleep(1.0)
        assert mine.held and not other.lock("renewed").acquire(timeout=0)


def test_who_dies_leaves_it_after_the_lease(start, name, server, tiers):
    def work(child: Any) -> None:
        tier = Tiered(ShmMap(name, size="1MB"), f"unix://{server.path}")
        with tier.lock("a", lease=0.5) as lock:
            child.tell(lock.token)
            time.sleep(60)

    child = start(work)
    token = child.hear()
    other = tiers(server.client())
    assert not other.lock("a").acquire(timeout=0.1)
    child.kill()
    with other.lock("a", timeout=5) as lock:
        assert lock.token > token
    ShmMap(name).unlink()


def test_who_was_stopped_has_lost_it(start, name, server, tiers):
    def work(child: Any) -> Any:
        tier = Tiered(ShmMap(name, size="1MB"), f"unix://{server.path}")
        lock = tier.lock("a", lease=0.5)
        lock.acquire()
        child.tell(lock.token)
        child.hear()
        try:
            lock.release()
        except LockLost as error:
            return "lost" in str(error)
        return False

    child = start(work)
    token = child.hear()
    child.stop()
    other = tiers(server.client())
    with other.lock("a", timeout=5) as lock:
        assert lock.token > token
        child.go_on()
        child.tell("go on")
        assert child.result() is True
    ShmMap(name).unlink()


def test_a_lock_of_a_store_that_is_gone(tiers):
    store = LocalStore()
    tier = tiers(store)
    store.is_cut = True
    with pytest.raises(StoreUnavailable):
        tier.lock("a").acquire()
    store.is_cut = False
    with tier.lock("a", timeout=5):
        store.is_cut = True
    store.is_cut = False


def test_who_waits_in_vain_takes_nothing_from_the_holder(tiers, store):
    tier, other = tiers(store), tiers(store)
    lock = tier.lock("a", timeout=0.1, lease=2)
    late: list[str] = []

    def enter() -> None:
        with suppress(LockTimeout):
            lock.__enter__()
        try:
            with lock:
                pass
        except LockTimeout:
            late.append("late")

    with lock:
        token = lock.token
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        assert late == ["late"] and lock.held and lock.token == token
        assert not other.lock("a").acquire(timeout=0)
    with other.lock("a", timeout=1):
        pass


def test_a_forked_child_does_not_have_its_parent_s_lock(start, running, tiers):
    tier, other = tiers(running.client()), tiers(running.client())

    def work(child: Any) -> Any:
        try:
            lock.release()
        except LockLost:
            return lock.held
        return "released"

    with tier.lock("forked", lease=5) as lock:
        assert start(work).result() is False
        assert lock.held and not other.lock("forked").acquire(timeout=0)


def test_tokens_rise_where_the_store_has_lost_its_data(tiers, running):
    client = running.client()
    tier = tiers(client)
    with tier.lock("a") as lock:
        token = lock.token
    client.flushall()
    with tier.lock("a") as lock:
        assert lock.token > token


def test_a_store_that_says_nothing_is_waited_for_once(tiers, server):
    tier = tiers(server.client(), timeout=0.3)
    assert tier.get("a") is None
    server.stop()
    try:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            tier.lock("a").acquire(timeout=0.2)
        assert time.monotonic() - began < 1
    finally:
        server.go_on()


def test_one_machine_computes(tiers, store):
    one, other = tiers(store), tiers(store)
    calls: list[int] = []
    begun, end = threading.Event(), threading.Event()

    def slow() -> str:
        calls.append(1)
        begun.set()
        end.wait(10)
        return "drawn"

    found: list[Any] = []
    threads = [threading.Thread(target=lambda t=t: found.append(t.get_or_set("p", slow, ttl=60)))
               for t in (one, other, one)]
    threads[0].start()
    assert begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    with pytest.raises(LockTimeout, match="'p'"):
        other.get_or_set("p", slow, timeout=0.05)
    with pytest.raises(LockTimeout):
        tiers(store).get_or_set("p", slow, timeout=0.05)
    end.set()
    for thread in threads:
        thread.join()
    assert found == ["drawn"] * 3 and calls == [1] and 50 < one.ttl("p") <= 60
    assert other.get_or_set("p", slow) == "drawn"
    with pytest.raises(ZeroDivisionError):
        one.get_or_set("q", lambda: 1 / 0)
    assert other.get_or_set("q", lambda: 5) == 5
    until(lambda: one.get("q") == 5)


def test_neither_store_nor_map_fails_a_computation(tiers):
    store = LocalStore()
    tier = tiers(store)
    store.is_cut = True
    assert tier.get_or_set("a", lambda: 1) == 1
    store.is_cut = False
    until(lambda: tier.get_or_set("a", lambda: 2) == 2 and store.kept)
    assert tier.get_or_set("lock", threading.Lock) is not None  # does not pickle
    assert set(tier.map.stats().uncached) == {"store", "not_picklable"}

    async def wrong() -> None:
        return None

    with pytest.raises(TypeError, match="coroutine"):
        tier.get_or_set("b", wrong)
    with pytest.raises(TypeError, match="callable"):
        tier.get_or_set("b", 5)


def test_a_function_s_results_are_kept_for_all_machines(tiers, store):
    calls: list[int] = []

    def square(number: int, power: int = 2) -> int:
        calls.append(number)
        return int(number**power)

    here, there = (tiers(store).cached(ttl=60)(square) for _ in range(2))
    assert [here(3), there(number=3), there(3, 2), here(3)] == [9] * 4 and calls == [3]
    assert here.key_for(3) == there.key_for(3, power=2) and here.__wrapped__ is square
    assert here.invalidate(3) and not there.invalidate(3)
    until(lambda: there(3) == 9 and calls == [3, 3])
    assert here([1][0], 3) == 1

    async def coroutine() -> None:
        pass

    for wrong in (5, coroutine):
        with pytest.raises(TypeError):
            tiers(store).cached()(wrong)

    unkeyed = tiers(store).cached()(id)
    thing = object()
    assert unkeyed(thing) == id(thing) == unkeyed(thing)
