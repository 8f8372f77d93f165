"""get_or_set(stale=...): past its time a value is given on while one computes it anew."""

from __future__ import annotations

import threading
from typing import Any

import pytest


@pytest.fixture
def clock(make, freeze):
    """A map and its clock, standing still."""
    m = make()
    return m, freeze(m)


def test_a_fresh_value_is_not_computed_again(clock):
    m, frozen = clock
    assert m.get_or_set("k", lambda: 1, ttl=10, stale=5) == 1
    assert m.ttl("k") == 15
    frozen.advance(9)
    assert m.get_or_set("k", lambda: 2, ttl=10, stale=5) == 1


def test_past_its_time_one_computes_and_the_others_do_not_wait(clock):
    m, frozen = clock
    m.get_or_set("k", lambda: 1, ttl=10, stale=5)
    frozen.advance(11)
    assert m["k"] == 1, "get sees it until ttl + stale"
    others: list[Any] = []

    def factory() -> int:
        def ask() -> None:
            others.append(m.get_or_set("k", lambda: 3, ttl=10, stale=5))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(10)
        return 2

    assert m.get_or_set("k", factory, ttl=10, stale=5) == 2
    assert others == [1] and m["k"] == 2 and m.ttl("k") == 15


def test_after_ttl_and_stale_it_is_a_miss(clock):
    m, frozen = clock
    m.get_or_set("k", lambda: 1, ttl=10, stale=5)
    frozen.advance(16)
    assert m.get_or_set("k", lambda: 2, ttl=10, stale=5) == 2


def test_an_error_leaves_the_stale_value(clock):
    m, frozen = clock
    m.get_or_set("k", lambda: 1, ttl=10, stale=5)
    frozen.advance(11)
    with pytest.raises(ZeroDivisionError):
        m.get_or_set("k", lambda: 1 / 0, ttl=10, stale=5)
    assert m["k"] == 1
    assert m.get_or_set("k", lambda: 2, ttl=10, stale=5) == 2


def test_stale_with_the_maps_ttl(make):
    m = make(ttl=10)
    m.get_or_set("k", int, stale=5)
    assert 14 < (m.ttl("k") or 0) <= 15
