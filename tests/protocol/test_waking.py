"""Who waits for a named lock is woken as it is left, and looks for itself where nobody wakes it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from shmmap.locks import waiting
from shmmap.system import futex

from .holders import SOON_S, take_and_stop

SLICE_S = 30.0  # nobody can have looked again by then


@pytest.fixture
def long_slices(monkeypatch: Any) -> None:
    """Have a wait last until it is woken."""
    if not futex.is_there():
        pytest.skip("this machine has no futexes")
    monkeypatch.setattr(waiting, "LONGEST_PAUSE_S", SLICE_S)
    monkeypatch.setattr(waiting, "TURN_S", 10 * SLICE_S)


def waiter(m: Any, take: Any) -> Any:
    """Make a child's work: say that it is about to wait, and when it had what it waited for."""
    def work(child: Any) -> float:
        child.tell("waits")
        take(m)
        return time.monotonic()

    return work


def taken(m: Any) -> None:
    with m.lock("a"):
        pass


def permitted(m: Any) -> None:
    with m.semaphore("a", 3):
        pass


@pytest.mark.parametrize("waiters", [1, 4])
def test_a_release_wakes_the_next(make, start, long_slices, waiters):
    m = make()
    with m.lock("a"):
        children = [start(waiter(m, taken)) for _ in range(waiters)]
        for child in children:
            child.hear()
        time.sleep(0.3)
        left = time.monotonic()
    for child in children:
        assert child.result() - left < SOON_S
        child.reap()


@pytest.mark.parametrize("number", range(3))
def test_any_permit_wakes_who_waits_for_one(make, start, long_slices, number):
    m = make()
    permits = [m.semaphore("a", 3) for _ in range(3)]
    for permit in permits:
        assert permit.acquire()
    child = start(waiter(m, permitted))
    child.hear()
    time.sleep(0.3)
    left = time.monotonic()
    permits[number].release()
    assert child.result() - left < SOON_S
    child.reap()


def test_a_value_wakes_all_who_wait_for_it(make, start, long_slices):
    m = make()

    def fetch(m: Any) -> None:
        assert m.get_or_set("k", lambda: "mine") == "drawn"

    def draw() -> str:
        children.extend(start(waiter(m, fetch)) for _ in range(3))
        for child in children:
            child.hear()
        time.sleep(0.3)
        return "drawn"

    children: list[Any] = []
    assert m.get_or_set("k", draw) == "drawn"
    left = time.monotonic()
    for child in children:
        assert child.result() - left < SOON_S
        child.reap()


@pytest.mark.parametrize("is_there", [True, False])
def test_nobody_has_to_be_woken(make, start, monkeypatch, is_there):
    """A holder that is killed wakes nobody; nor does one on a machine without futexes."""
    m = make()
    monkeypatch.setattr(futex._State, "number", futex._State.number if is_there else 0)
    for way in ("leave", "die"):
        holder = start(take_and_stop(m, "a"))
        holder.hear()
        child = start(waiter(m, taken))
        child.hear()
        time.sleep(0.1)
        left = time.monotonic()
        if way == "die":
            holder.kill()
        else:
            holder.tell("leave")
        assert child.result() - left < SOON_S
        child.reap()
