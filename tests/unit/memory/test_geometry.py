"""From sizes and capacities to shards and slots: against exact and drawn references."""

from __future__ import annotations

import re
from math import comb

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import shmmap
from shmmap.lifecycle.parameters import Parameters
from shmmap.memory import geometry
from shmmap.memory.layout import shard_areas

shard_counts = st.sampled_from([None, *(1 << bit for bit in range(13))])


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (1, 1), ("1", 1), ("64MB", 64 * 10**6), ("64 mb", 64 * 10**6), (" 64MiB ", 64 * 2**20),
        ("64M", 64 * 2**20), ("1k", 1024), ("1KB", 1000), ("1.5GiB", 3 * 2**29), ("0.5K", 512),
        ("2TB", 2 * 10**12), ("1T", 2**40), ("7B", 7),
    ],
)  # fmt: skip
def test_sizes(said, meant):
    assert geometry.parse_size(said) == meant


@pytest.mark.parametrize("said", ["", "MB", "-1", "1 XB", "1e6", "0", "0MB", 0, -5, "1,000", "nan"])
def test_what_is_no_size(said):
    with pytest.raises(ValueError, match="size="):
        geometry.parse_size(said)


@pytest.mark.parametrize("said", [
    2**62 + 1, 10**30, 10**5000, "9" * 30, "9" * 5000 + "GB",
    "1" + "0" * 400 + ".5TB", "9999999TiB",
], ids=range(7))  # fmt: skip
def test_a_size_that_no_map_has(said):
    with pytest.raises(ValueError, match=r"size= is more than any map has: give at most 4,611"):
        geometry.parse_size(said)


def test_digits_are_not_counted():
    assert geometry.parse_size("0" * 40 + "64MB") == geometry.parse_size("64." + "0" * 40 + "MB")


@pytest.mark.parametrize("said", [1.5, True, None, b"64MB"])
def test_what_is_no_kind_of_size(said):
    with pytest.raises(TypeError, match="size"):
        geometry.parse_size(said)


def exact_bound(entries: int, shards: int, chance: float) -> int:
    """Find the least c with shards * P(X > c) <= chance, in integers: nothing is rounded."""
    numerator, denominator = chance.as_integer_ratio()
    whole = shards**entries
    tail = 0
    for c in range(entries, -1, -1):
        above = tail + comb(entries, c) * (shards - 1) ** (entries - c)
        if above * shards * denominator > numerator * whole:
            return c
        tail = above
    return 0


@pytest.mark.parametrize("chance", [1e-6, 1e-2])
@pytest.mark.parametrize("shards", [2, 4, 64, 512])
@pytest.mark.parametrize("entries", [1, 2, 7, 64, 300, 1000])
def test_the_load_bound_is_the_exact_one(entries, shards, chance):
    assert geometry.shard_load_bound(entries, shards, chance) == exact_bound(
        entries, shards, chance
    )


def test_one_shard_gets_all():
    assert geometry.shard_load_bound(12_345, 1) == 12_345


@pytest.mark.parametrize(("entries", "shards"), [(1000, 64), (20_000, 16), (300, 8)])
def test_the_load_bound_holds_as_often_as_it_says(entries, shards):
    chance, runs = 0.02, 20_000
    bound = geometry.shard_load_bound(entries, shards, chance)
    drawn = np.random.default_rng(1).multinomial(entries, [1 / shards] * shards, runs).max(axis=1)
    failed = (drawn > bound).mean()
    assert failed <= chance + 4 * (chance / runs) ** 0.5
    assert (drawn > bound - 2).mean() > chance / 2, "far above what is needed"


@given(
    size=st.integers(80_000, 2**36), shards=shard_counts, evicts=st.integers(0, 1),
    value_size=st.none() | st.integers(0, 1 << 20), key_size=st.integers(0, 300),
)  # fmt: skip
def test_a_size_is_used_and_never_exceeded(size, shards, value_size, key_size, evicts):
    try:
        found = geometry.plan_size(size, shards, value_size, key_size, evicts)
    except ValueError:
        assume(False)
    assert found.total_bytes <= size
    assert shards in (None, found.shards)
    more = found._replace(slots=found.slots + 1, buckets=geometry.buckets_for(found.slots + 1))
    assert more.total_bytes > size or found.slots == geometry.SLOT_LIMIT


@given(size=st.integers(1, 400_000), shards=shard_counts, value_size=st.integers(0, 9000))
def test_a_size_too_small_names_one_that_is_not(size, shards, value_size):
    try:
        geometry.plan_size(size, shards, value_size, 16, 0)
    except ValueError as error:
        least = int(re.search(r"give at least size=(\d+)", str(error))[1])
        assert least > size
        found = geometry.plan_size(least, shards, value_size, 16, 0)
        assert found.slots >= 2 and found.total_bytes <= least
        with pytest.raises(ValueError):
            geometry.plan_size(least - 1, found.shards, value_size, 16, 0)


@given(
    capacity=st.integers(1, 3_000_000), shards=shard_counts,
    value_size=st.none() | st.integers(0, 20_000), key_size=st.integers(0, 300),
)  # fmt: skip
def test_a_capacity_has_its_slots(capacity, shards, value_size, key_size):
    found = geometry.plan_capacity(capacity, shards, value_size, key_size, 0)
    data = key_size + (100 if value_size is None else value_size)
    each = geometry.slots_needed(data, found.slot_size)
    usable = (found.slots - 1) // each  # one slot stays in reserve
    assert usable >= geometry.shard_load_bound(capacity, found.shards)
    assert usable * found.shards >= capacity
    assert found.buckets * 8 >= found.slots * 5 // 4
    assert data <= found.max_entry_bytes


def test_a_capacity_beyond_24_bits_of_slots_names_shards_that_hold_it():
    for capacity in (17_000_000, 10**8, 10**9 + 1):
        with pytest.raises(ValueError) as caught:
            geometry.plan_capacity(capacity, 1, 8, 8, 0)
        shards = int(re.search(r"shards=(\d+)", str(caught.value))[1])
        assert geometry.plan_capacity(capacity, shards, 8, 8, 0).shards == shards


@pytest.mark.parametrize("shards", [0, -1, 3, 6, 8192])
def test_shards_are_a_power_of_two(shards):
    with pytest.raises(ValueError, match="power of two"):
        geometry.plan_size(10**7, shards, None, 16, 0)
    with pytest.raises(ValueError, match="power of two"):
        geometry.plan_capacity(1000, shards, None, 16, 0)


@pytest.mark.parametrize("wrong", [1.5, True, "4"])
def test_counts_are_ints(wrong):
    for shards in (wrong, 4.0):
        with pytest.raises(TypeError, match="shards"):
            geometry.plan_size(10**7, shards, None, 16, 0)
    assert geometry.check_capacity(1e6) == 10**6
    with pytest.raises(TypeError, match="capacity"):
        geometry.plan_capacity(wrong, None, None, 16, 0)


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_capacity_is_positive(capacity):
    with pytest.raises(ValueError, match="capacity="):
        geometry.plan_capacity(capacity, None, None, 16, 0)


def test_a_capacity_that_no_map_has():
    most = geometry.SHARD_LIMIT * geometry.SLOT_LIMIT
    for capacity in (most + 1, 10**12, 10**30, 10**400, 10**5000):
        with pytest.raises(ValueError, match=f"capacity= is more .* give at most {most:,}"):
            shmmap.ShmMap("never", capacity=capacity)
    with pytest.raises(ValueError, match="slots a shard"):
        geometry.plan_capacity(most, None, None, 16, 0)


@given(
    st.integers(2, 1 << 18), st.integers(4, 600), st.integers(0, 1), st.integers(1, 100)
)
def test_areas_lie_one_behind_the_other(slots, words, evicts, buckets):
    areas = shard_areas(slots, 8 * words, buckets, evicts)
    width = 2 if slots < 65_536 else 4
    assert list(areas) == sorted(areas)
    assert areas.index % 64 == 0 and areas.ghosts - areas.index == buckets * 64
    assert areas.ring - areas.next == 4 * (slots + 1)
    assert areas.deadlines - areas.slots >= slots * 8 * words
    assert areas.end - areas.deadlines >= 4 * slots
    assert areas.slots % 8 == areas.next % 4 == areas.ring % width == 0
    assert areas.deadlines % 4096 == areas.end % 4096 == 0
    if evicts:
        assert areas.state - areas.ring >= width * (slots * 7 // 10 + 2)
        assert areas.flags - areas.state == slots + 1
        assert (areas.slots - areas.flags) * 4 > slots


@pytest.mark.timeout(5, method="signal")
@pytest.mark.parametrize("said", [{"size": "1MB"}, {"capacity": 1000}, {"size": "1GB"}], ids=str)
@pytest.mark.parametrize("data_bytes", [10**5, 10**8, 2**31, 2**32 + 2**16])
def test_the_advice_for_an_entry_always_ends(said, data_bytes):
    assert re.search(r"s(ize|hards)=\d|split|value_size", Parameters.read(said).advice(data_bytes))


def test_long_entries_get_fewer_shards():
    """A shard's size is limited for its repair, which goes by slots: a few long ones need not be
    spread over many shards, each with headroom of its own."""
    few = geometry.plan_capacity(488, None, 65_528, 8, False)
    assert few.shards == 1 and few.total_bytes < 1.02 * 488 * 65_536
    assert few.slots < geometry.LARGE_SLOTS
    more = geometry.plan_capacity(4_000, None, 65_528, 8, False)
    assert more.shards > 1 and more.areas.end < geometry.LARGEST_SHARD * 1.5
    short = geometry.plan_capacity(10_000_000, None, 100, 16, False)
    assert short.slots * short.slot_size < geometry.LARGE_SHARD * 1.2
