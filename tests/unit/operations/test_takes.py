"""pop and popitem: one step, and what cannot be decoded here stays for a worker that can."""

from __future__ import annotations

import sys
import types

import pytest

import shmmap
from shmmap.errors import LockTimeout, MapCorrupted, ValueUnreadable

from ...support.damage import Damage


class Writes:
    """A value that writes to the map whenever it is decoded: others are always quicker."""

    m: shmmap.ShmMap
    left = 0

    def __init__(self) -> None:
        self.key = "k"

    def __setstate__(self, state: object) -> None:
        if Writes.left:
            Writes.left -= 1
            Writes.m["k"] = Writes()


@pytest.fixture
def jobs(monkeypatch):
    module = types.ModuleType("jobs_of_another_worker")
    exec("class Job: pass", module.__dict__)
    module.Job.__module__ = module.__name__
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@pytest.mark.parametrize("near", [0, 10])
@pytest.mark.parametrize("take", ["pop", "popitem"])
def test_what_cannot_be_unpickled_stays(make, jobs, monkeypatch, take, near):
    m = make(near=near)
    m["job"] = jobs.Job()
    with monkeypatch.context() as without:
        without.delitem(sys.modules, jobs.__name__)
        for _ in range(3):
            with pytest.raises(ValueUnreadable, match=jobs.__name__):
                m.pop("job") if take == "pop" else m.popitem()
            assert "job" in m and len(m) == 1 and m.inflight == 0
    taken = m.pop("job") if take == "pop" else m.popitem()[1]
    assert type(taken) is jobs.Job
    assert len(m) == 0 and not m.check()


def test_popitem_offers_another_after_what_cannot_be_unpickled(make, jobs, monkeypatch):
    m = make()
    m["job"], m["a"], m["b"] = jobs.Job(), 1, 2
    monkeypatch.delitem(sys.modules, jobs.__name__)
    taken, errors = [], 0
    while len(m) > 1:
        try:
            taken.append(m.popitem())
        except ValueUnreadable:
            errors += 1
            assert errors < 5
    assert sorted(taken) == [("a", 1), ("b", 2)] and list(m) == ["job"]


@pytest.mark.parametrize("take", ["pop", "popitem"])
def test_a_damaged_value_stays(make, take):
    m = make(shards=1)
    m[b"key"] = "text"
    d = Damage(m)
    at = d.slot_word(d.head(b"key")) * 8 + 16 + 3
    d.octets[at : at + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(MapCorrupted, match="UTF-8"):
        m.pop(b"key") if take == "pop" else m.popitem()
    assert len(m) == 1
    assert m.delete(b"key") and len(m) == 0


@pytest.mark.parametrize("take", ["pop", "popitem"])
def test_a_pickle_in_a_safe_map_stays(make, name, take):
    m = make(codec="safe", shards=1)
    packed = shmmap.values._codecs_cy.pack({"a": 1j})
    m[b"key"] = packed[1]
    d = Damage(m)
    meta = d.slot_word(d.head(b"key"), 8)
    d.words[meta] += (packed[0] - 1) << shmmap.memory.layout.constants()["META_VALUE_TYPE_SHIFT"]
    with pytest.raises(ValueUnreadable, match="pickle") as caught:
        m.pop(b"key") if take == "pop" else m.popitem()
    assert len(m) == 1 and type(caught.value.__cause__) is TypeError
    assert m.get_or_set(b"key", lambda: 5) == 5 == m[b"key"]


@pytest.mark.parametrize("take", ["pop", "popitem"])
def test_what_others_write_meanwhile_is_taken_in_the_end(make, take):
    m = make()
    Writes.m = m
    m["k"] = Writes()
    Writes.left = 20
    taken = m.pop("k") if take == "pop" else m.popitem()[1]
    assert type(taken) is Writes and Writes.left == 0
    assert len(m) == 0 and m.inflight == 0


@pytest.mark.parametrize("take", ["pop", "popitem"])
def test_who_is_never_quick_enough_gives_up_and_removes_nothing(make, take):
    m = make(lock_timeout=0.05)
    Writes.m = m
    m["k"] = Writes()
    Writes.left = 1 << 30
    with pytest.raises(LockTimeout, match="again each time"):
        m.pop("k") if take == "pop" else m.popitem()
    Writes.left = 0
    assert len(m) == 1 and m.inflight == 0
    m.clear()


@pytest.mark.parametrize("take", ["pop", "popitem"])
def test_a_plain_value_that_others_write_meanwhile_is_taken_at_once(make, monkeypatch, take):
    """Where decoding runs nobody's code, nobody can be quicker for ever."""
    m = make()
    Writes.m = m
    turns = iter(range(1000))

    class Ends(Writes):
        def __setstate__(self, state: object) -> None:
            number = next(turns)
            m["k"] = Ends() if number < 10 else b"l" * 5000

    monkeypatch.setattr(sys.modules[__name__], "Ends", Ends, raising=False)
    Ends.__qualname__ = "Ends"
    m["k"] = Ends()
    assert (m.pop("k") if take == "pop" else m.popitem()[1]) == b"l" * 5000
    assert len(m) == 0 and not m.check()


def test_pop_of_what_is_not_there(make):
    m = make(near=5)
    assert m.pop("none", 7) == 7
    with pytest.raises(KeyError):
        m.pop("none")
    m["a"] = None
    assert m.pop("a", 7) is None
    before = m.stats()
    m.set("b", 1, ttl=5)
    m.attachment.clock.frozen_ns = m.attachment.clock.now_ns() + 10 * 10**9
    assert m.pop("b", 7) == 7
    assert m.stats().deletes == before.deletes and m.stats().hits == before.hits


@pytest.mark.parametrize("length", [0, 1, 111, 112, 600, 100_000])
def test_what_is_taken_is_whole(make, length):
    m = make()
    for value in (b"v" * length, "s" * length, [b"p" * length]):
        m["k" * 200] = value
        assert m.pop("k" * 200) == value
        m["k" * 200] = value
        assert m.popitem() == ("k" * 200, value)
    assert not m.check()
