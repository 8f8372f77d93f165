"""Deadlines as they are stored: codes that are rounded up, from the base of their shard."""

from __future__ import annotations

import os
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmmap.lifecycle import headers
from shmmap.memory._clock_cy import Clock
from shmmap.memory.layout import constants
from shmmap.shard._expiry_cy import (
    base_of,
    code_of,
    is_base_word,
    last_due,
    new_base_word,
    time_of,
    word_of_base,
)
from shmmap.tools.counting import shards_of
from shmmap.tools.inspection import find_map

from ...support.clocks import START_NS
from ...support.damage import Damage
from ...support.programs import run_code

K = constants()
TICK, FINE, MIDDLE, NEVER = (K[f"DEADLINE_{name}"] for name in
                             ("TICK_NS", "FINE", "MIDDLE", "NEVER"))
SECOND, MINUTE, YEAR = 64 * TICK, 64 * 64 * TICK, 31_557_600 * 64 * TICK
LAST = (1 << 63) - 1
EDGES = (1, 2, FINE - 1, FINE, FINE + 1, MIDDLE - 1, MIDDLE, MIDDLE + 1, NEVER - 2, NEVER - 1,
         NEVER)
BASES = (0, MINUTE, 10**15 // MINUTE * MINUTE, (K["DEADLINE_BASE_LIMIT"] - 1) * MINUTE)

codes = st.one_of(st.integers(1, NEVER), st.sampled_from(EDGES))
bases = st.one_of(st.sampled_from(BASES),
                  st.integers(0, K["DEADLINE_BASE_LIMIT"] - 1).map(MINUTE.__mul__))
times = st.one_of(st.integers(1, LAST), st.integers(0, 5 * YEAR),
                  st.tuples(codes, st.sampled_from(BASES), st.integers(-1, 1)).map(
                      lambda drawn: min(LAST, max(1, time_of(drawn[1], drawn[0]) + drawn[2]))))


@pytest.mark.parametrize("base", BASES)
def test_the_units_are_those_of_the_document(base):
    assert TICK * 64 == 10**9
    assert time_of(base, 1) == base + TICK and time_of(base, FINE) == base + FINE * TICK
    assert FINE * TICK > 2.06 * YEAR > 2 * YEAR + 20 * 86400 * SECOND
    assert time_of(base, FINE + 1) == time_of(base, FINE) + SECOND
    assert time_of(base, MIDDLE) - base > 4.18 * YEAR
    assert time_of(base, MIDDLE + 1) == time_of(base, MIDDLE) + MINUTE
    assert time_of(base, NEVER - 1) - base > 140 * YEAR and time_of(base, NEVER - 1) < LAST
    assert time_of(base, NEVER) == LAST


@given(bases, codes, codes)
def test_codes_are_in_the_order_of_their_times(base, one, other):
    assert (one < other) == (time_of(base, one) < time_of(base, other))
    assert code_of(base, time_of(base, one)) == one


@given(bases, times)
def test_a_deadline_is_rounded_up_by_less_than_its_unit(base, deadline):
    code = code_of(base, deadline)
    stored = time_of(base, code)
    unit = TICK if code <= FINE else SECOND if code <= MIDDLE else MINUTE
    assert 1 <= code <= NEVER and stored >= deadline
    if code == 1:
        assert deadline <= base + TICK
    elif code < NEVER:
        assert stored - deadline < unit and stored % unit == 0


@given(bases, codes, times)
def test_due_by_code_is_due_by_time(base, code, now):
    now = min(now, LAST - 1)  # no clock comes there
    assert (code <= last_due(base, now)) == (time_of(base, code) <= now)
    assert last_due(base, now) < NEVER


@given(bases, bases, times)
def test_a_move_to_a_newer_base_keeps_the_time(one, other, deadline):
    old, new = sorted((one, other))
    stored = time_of(old, code_of(old, deadline))
    if stored > new:
        assert time_of(new, code_of(new, stored)) == stored


@given(st.integers(0, 68 * YEAR))
def test_a_base_is_before_its_making(now):
    base = base_of(new_base_word(now))
    assert base % MINUTE == 0 and (base == 0 or MINUTE <= now - base < 2 * MINUTE)
    assert now < MINUTE or time_of(base, 1) <= now, "what passed before it has passed"


@given(st.one_of(st.integers(0, (1 << 64) - 1), st.sampled_from((0, (1 << 64) - 1, 1 << 32))))
def test_a_word_that_is_no_base_counts_from_0(word):
    assert is_base_word(word_of_base(base_of(word)))
    if not is_base_word(word):
        assert base_of(word) == 0


def aged(make: Any, monkeypatch: pytest.MonkeyPatch, freeze: Any, years: float) -> Any:
    """Make a map, and let so much time pass."""
    monkeypatch.setattr(headers, "CLOCK", Clock(START_NS))
    m = make(size="1MB", shards=1)
    clock = freeze(m)
    clock.advance(years * YEAR / SECOND)
    return m, clock


@pytest.mark.parametrize(("years", "unit"), [(2, TICK), (2.1, SECOND), (4, SECOND), (4.3, MINUTE)])
def test_an_old_map_has_coarser_ttls_until_it_is_resized(make, monkeypatch, freeze, years, unit):
    m, clock = aged(make, monkeypatch, freeze, years)
    clock.advance(0.001)
    m.set("a", 1, ttl=5)
    assert 5 <= m.ttl("a") + 1 / 64 and m.ttl("a") <= 5 + unit / SECOND
    later = Clock(m.attachment.clock.now_ns())
    monkeypatch.setattr(headers, "CLOCK", later)
    left = m.ttl("a")
    m.resize(shards=2)
    assert m.ttl("a") == left, "a move keeps the time"
    m.set("b", 1, ttl=5)
    assert m.ttl("b") <= 5
    clock.advance(5 + 1 / 64)
    assert "b" not in m and m.check() == []
    clock.advance(unit / SECOND)
    assert "a" not in m and m.sweep().expired == 2 and m.check() == []


def test_what_has_no_code_never_comes(make, monkeypatch, freeze):
    m, clock = aged(make, monkeypatch, freeze, 60)
    m.set("a", 1, ttl=2.9e9)
    assert m.ttl("a") > 2.9e9
    m.set("b", 1, ttl=1)
    clock.advance(65)
    assert "b" not in m and m["a"] == 1 and m.sweep().expired == 1 and m.check() == []


def test_they_are_counted_from_outside_by_the_same_base(make, monkeypatch, name):
    """`shmmap ls` reads the file."""
    m = make(size="1MB", shards=1)
    m.set_many(dict.fromkeys(range(100), 1), ttl=1 / 64)
    m.set_many(dict.fromkeys(range(100, 150), 1), ttl=1000)
    while len(m) > 50:
        pass
    found = find_map(name)
    assert found is not None and sum(shard.entries for shard in shards_of(found)) == 50


def test_a_damaged_base_is_refused_until_it_is_repaired(make, name):
    m = make(size="1MB", shards=1, ttl=50)
    m["a"] = 1
    damage = Damage(m)
    right = damage.header("DEADLINE_BASE")
    damage.set_header("DEADLINE_BASE", right ^ 1 << 40)
    assert 49 < m.ttl("a") <= 50, "whoever has it open goes by what it read"
    m.set("b", 1, ttl=50)
    assert dict(m.snapshot()) == {"a": 1, "b": 1}
    attach = f"import shmmap; print(sorted(shmmap.ShmMap.attach({name!r}).items()))"
    refused = run_code(attach)
    assert refused.returncode == 1 and "DEADLINE_BASE" in refused.stderr
    m.repair()
    assert damage.header("DEADLINE_BASE") == right and m.check() == []
    assert run_code(attach).stdout == "[('a', 1), ('b', 1)]\n"


def test_every_code_reads_as_some_time(make, freeze):
    m = make(size="1MB", shards=1, ttl=50)
    freeze(m)
    m["a"] = 1
    damage = Damage(m)
    at = damage.deadline_half(damage.head(b"a"))
    base = base_of(damage.header("DEADLINE_BASE"))
    for code in (*EDGES, *struct.unpack("8I", os.urandom(32))):
        if code <= K["DEADLINE_BURIED"]:
            continue  # of tombstones, and below: no entry gets one
        damage.halves[at] = code
        damage.set_header("EARLIEST_NS", time_of(base, code))
        is_due = time_of(base, code) <= START_NS
        assert ("a" in m) is not is_due and len(m) == (not is_due)
        assert m.check() == []
