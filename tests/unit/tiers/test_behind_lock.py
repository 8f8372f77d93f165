"""tier.lock of a tier that writes behind: who has it next reads what was written under it."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from shmmap import LockLost, Reentered, StoreUnavailable
from shmmap.testing import LocalStore
from shmmap.tiers import behind as behind_module

from .conftest import until


def carry_late(store: Any, seconds: float) -> None:
    """Have what waits come to the store so much later."""
    real = store.put_latest

    def late(*given: Any) -> Any:
        time.sleep(seconds)
        return real(*given)

    store.put_latest = late


def test_who_has_it_next_reads_what_was_written(behind, store):
    """Two machines add to one number, each under the lock."""
    machines = [behind(store), behind(store)]
    for tier in machines:
        carry_late(tier.store, 0.005)

    def add(tier: Any) -> None:
        for _ in range(10):
            with tier.lock("n", timeout=30):
                tier["n"] = tier.get("n", 0, consistency="linearizable") + 1

    threads = [threading.Thread(target=add, args=(tier,)) for tier in machines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert machines[0].get("n", consistency="linearizable") == 20


def test_what_cannot_be_carried_leaves_it_to_its_lease(behind, monkeypatch):
    monkeypatch.setattr(behind_module, "SETTLE_S", 0.2)
    store = LocalStore()
    tier, other = behind(store), behind(store)
    carries, store.put_latest = store.put_latest, lambda *given: [None] * len(given[0])
    with pytest.raises(StoreUnavailable, match="1 key ") as raised, tier.lock("a", lease=1) as lock:
        began = time.monotonic()
        tier["a"] = 1
    assert not lock.held and not tier.map.lock("a").locked()
    assert "left to its lease" in str(getattr(raised.value, "__notes__", ["left to its lease"]))
    store.put_latest = carries
    with other.lock("a", timeout=10):
        assert time.monotonic() - began > 0.9
        assert other.get("a", consistency="linearizable") == 1


def test_what_a_block_raises_comes_out_of_it(behind, monkeypatch):
    monkeypatch.setattr(behind_module, "SETTLE_S", 0.1)
    store = LocalStore()
    tier = behind(store)
    store.put_latest = lambda *given: [None] * len(given[0])  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError), tier.lock("a"):
        tier["a"] = 1
        1 / 0  # noqa: B018


def test_one_that_was_lost_waits_for_nothing(behind):
    store = LocalStore()
    tier = behind(store)
    store.put_latest = lambda *given: [None] * len(given[0])  # type: ignore[method-assign]
    lock = tier.lock("a", lease=0.1)
    assert lock.acquire()
    tier["a"] = 1
    until(lambda: store.locks.clear() or not lock.held)
    began = time.monotonic()
    with pytest.raises(LockLost, match="was lost"):
        lock.release()
    assert time.monotonic() - began < 1


def test_taken_twice_by_one_thread(behind):
    tier = behind(LocalStore())
    with tier.lock("a"), pytest.raises(Reentered, match="lock 'a' of store local: this thread has"):
        tier.lock("a").acquire()
