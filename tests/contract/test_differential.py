"""Random operations: the map gives what a dict with deadlines gives, and stays sound."""

from __future__ import annotations

import random

import pytest

import shmmap
from shmmap.lifecycle import making

from .operations import Operations

STEPS = 700
SHAPES = {
    "roomy": ({"shards": 1}, {}),
    "many shards": ({"shards": 64, "size": "2MB"}, {}),
    "chains": ({"shards": 1, "value_size": 0, "key_size": 0}, {}),
    "default ttl": ({"shards": 2, "ttl": 4.5}, {"default_ttl": 4.5}),
    "few slots, raise": (
        {"shards": 1, "capacity": 60, "value_size": 24}, {"full": shmmap.MapFull},
    ),
    "tiny slots, raise": (
        {"shards": 2, "capacity": 50, "value_size": 0, "key_size": 0}, {"full": shmmap.MapFull},
    ),
    "few slots, evict": (
        {"shards": 1, "capacity": 60, "value_size": 24, "on_full": "evict"}, {"evicts": True},
    ),
    "tiny slots, evict": (
        {"shards": 2, "capacity": 50, "value_size": 0, "key_size": 0, "on_full": "evict"},
        {"evicts": True},
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_random_operations_give_what_a_dict_gives(make, freeze, monkeypatch, shape, seed):
    parameters, options = SHAPES[shape]
    rng = random.Random(seed)
    monkeypatch.setattr(making, "random_word", lambda: rng.getrandbits(64))  # the hash seed
    m = make(**parameters)
    freeze(m)
    run = Operations(m, seed, **options)
    for number in range(STEPS):
        try:
            run.step()
            if number % 200 == 0:
                assert m.check() == []
        except Exception as error:
            raise AssertionError(f"{shape!r}, seed {seed}, step {number}: {error!r}") from error
    run.do_compare(None)
    assert m.check() == [], (shape, seed)
    figures = m.stats()
    assert figures.live_bytes > 0 and figures.writes > STEPS // 4
    assert (run.refused > 0) is ("raise" in shape)
    assert (figures.evicted > 0) is ("evict" in shape)


@pytest.mark.parametrize("shape", ["chains", "few slots, raise", "few slots, evict"])
def test_emptied_it_is_as_free_as_new(make, freeze, shape):
    parameters, options = SHAPES[shape]
    m = make(**parameters)
    freeze(m)
    fresh = m.stats()
    run = Operations(m, 99, **options)
    for _ in range(STEPS // 2):
        run.step()
    for key in list(m):
        del m[key]
    run.clock.frozen_ns += 10**13
    m.sweep()
    emptied = m.stats()
    assert (emptied.free_slots, emptied.live_bytes, emptied.entries) == (fresh.slots, 0, 0)
    assert m.check() == []
