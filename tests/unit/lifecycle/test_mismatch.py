"""A map that exists with other parameters than its opener asks for."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import request


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin as a process that has not warned yet."""
    monkeypatch.setattr(request, "_told", set())


SHAPES = [
    {"size": "2MB"}, {"capacity": 5000}, {"shards": 8}, {"value_size": 999}, {"key_size": 99},
    {"on_full": "evict"}, {"ephemeral": True},
]


@pytest.mark.parametrize("asked", SHAPES, ids=repr)
def test_another_shape_is_used_as_it_is_and_told_once(make, asked):
    m = make(shards=2)
    m["a"] = 1
    with pytest.warns(shmmap.MapMismatchWarning, match=next(iter(asked))) as told:
        other = shmmap.ShmMap(m.name, **asked)
    assert other["a"] == 1 and other.parameters == m.parameters
    assert told[0].filename == __file__, "it names the line that opens the map"
    how = "replace" if "ephemeral" in asked else "resize"
    assert f'on_mismatch="{how}"' in str(told[0].message)
    assert (f"python -m shmmap {how}" in str(told[0].message)) != ("ephemeral" in asked)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shmmap.ShmMap(m.name, **asked).close()  # not again
    other.close()


@pytest.mark.parametrize("asked", SHAPES, ids=repr)
def test_another_shape_is_refused_where_that_is_wanted(make, asked):
    m = make(shards=2)
    for opener in (shmmap.ShmMap, shmmap.ShmMap.attach):
        with pytest.raises(shmmap.ConfigMismatch, match=f"{next(iter(asked))}: asked"):
            opener(m.name, **asked, on_mismatch="raise")
    assert m.check() == []


@pytest.mark.parametrize("how", ["attach", "raise", "replace"])
@pytest.mark.parametrize("asked", [{"codec": "safe"}, {"mode": 0o666}], ids=repr)
def test_a_promise_is_never_bent(make, asked, how):
    m = make()
    with pytest.raises(shmmap.ConfigMismatch, match="promises"):
        shmmap.ShmMap(m.name, **asked, on_mismatch=how)
    m["a"] = 1


def test_the_same_shape_is_no_difference(make):
    m = make(size="1MB", shards=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for same in ({"size": 10**6}, {"size": "1MB", "shards": 2}, {}):
            shmmap.ShmMap(m.name, **same).close()


@pytest.mark.parametrize(("field", "wrong"), [("on_mismatch", "ask"), ("on_unlinked", object)])
def test_a_choice_that_there_is_not_is_refused(name, field, wrong):
    said: Any = {field: wrong}
    with pytest.raises(ValueError, match=f"{field}=.*must be one of"):
        shmmap.ShmMap(name, "1MB", **said)


# -- what belongs to the handle -----------------------------------------------------------


def test_a_ttl_is_the_handles_own(make):
    m = make(ttl=100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        short, never, same = (
            shmmap.ShmMap(m.name, **said) for said in ({"ttl": 5}, {"ttl": None}, {})
        )
    for handle in (m, short, never, same):
        handle["key"] = 1
        left = m.ttl("key")
        assert handle.default_ttl == (None if left is None else round(left))
        assert handle.get_or_set("computed", lambda: 1) == 1
        assert m.ttl("computed") == (None if left is None else pytest.approx(left, abs=1))
        del m["computed"]
    assert [one.default_ttl for one in (m, short, never, same)] == [100, 5, None, 100]


def test_the_map_keeps_its_creators_ttl_for_who_says_none(make, start):
    m = make(ttl=100)
    shmmap.ShmMap(m.name, ttl=5)["a"] = 1

    def work(child: Any) -> float:
        other = shmmap.ShmMap(m.name)
        other["b"] = 1
        return float(other.ttl("b"))

    assert start(work).result() == pytest.approx(100, abs=2)


def test_a_max_age_and_an_interval_are_the_handles_own(make, freeze):
    m = make(sweep_interval=None)
    clock = freeze(m)
    m["a"] = 1
    clock.advance(20)
    assert m.sweep().aged == 0
    other = shmmap.ShmMap(m.name, max_age=10, sweep_interval=None)
    assert (other.max_age, m.max_age) == (10, None)
    assert other.sweep().aged == 1 and "a" not in m


def test_the_shortest_interval_of_a_process_counts(make):
    m = make(sweep_interval=None)
    m["a"] = 1
    assert not m.attachment.sweeper.is_running()
    other = shmmap.ShmMap(m.name, sweep_interval=0.05)
    other["short"] = (1, 2)
    other.set("short", 1, ttl=0.01)
    deadline = shmmap.memory._clock_cy.monotonic() + 10
    while m.stats().expired < 1:
        assert shmmap.memory._clock_cy.monotonic() < deadline
    other.close()
