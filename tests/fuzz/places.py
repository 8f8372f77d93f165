"""Where to damage a map, and with what: picks that know where it hurts."""

from __future__ import annotations

import contextlib
import random

from ..support.damage import Damage, K
from .subject import Subject
from .truth import NEXT_MASK

WORD = (1 << 64) - 1
EDGES = (0, 1, 2, 3, 7, 8, 255, 1 << 16, (1 << 22) + 5, (1 << 24) - 1, 1 << 24, (1 << 31) - 1,
         1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, (1 << 62) + 2, (1 << 63) - 2, (1 << 63) - 1,
         1 << 63, (1 << 63) + 1, WORD - 2, WORD - 1, WORD)  # fmt: skip


def odd_value(rng: random.Random, near: int = 0) -> int:
    """Return a word that code may trip over: an edge, something near a true value, or noise."""
    choice = rng.random()
    if choice < 0.4:
        return rng.choice(EDGES)
    if choice < 0.8:
        return (near + rng.choice((-2, -1, 1, 2, 8, -(1 << 16), 1 << 32))) & WORD
    return rng.getrandbits(rng.choice((8, 24, 32, 64)))


def some_shard(rng: random.Random, s: Subject) -> Damage:
    """Pick a shard: now and then that of the named locks."""
    return s.locks if rng.random() < 0.15 else rng.choice(s.shards)


def some_octets(rng: random.Random, s: Subject) -> memoryview:
    """Pick a segment: mostly a shard's."""
    if rng.random() < 0.2:
        octets: memoryview = s.control.cast("B")
        return octets
    found: memoryview = some_shard(rng, s).octets
    return found


def some_area(rng: random.Random, d: Damage) -> tuple[int, int]:
    """Pick where to write in a shard: each area alike, however small; its start and length."""
    bounds = sorted({0, *d.areas})
    at = rng.randrange(len(bounds) - 1)
    return bounds[at], bounds[at + 1] - bounds[at]


def some_head(rng: random.Random, d: Damage) -> int:
    """Pick a live slot; where there is none, any."""
    return rng.choice(d.live() or [1])


def some_index_word(rng: random.Random, d: Damage) -> int:
    """Pick an index word: mostly one that names an entry."""
    with contextlib.suppress(KeyError):  # what is damaged already may not be named
        if rng.random() < 0.7:
            return d.index_word(some_head(rng, d))
    return rng.choice(d.index_words())


def following(d: Damage, slot: int) -> int:
    """Return the slot that a next word names."""
    return d.halves[d.next_half(slot)] & NEXT_MASK


def long_head(rng: random.Random, d: Damage) -> int:
    """Pick a live slot whose entry goes on in others, if there is one."""
    chained = [slot for slot in d.live() if following(d, slot)]
    return rng.choice(chained) if chained else some_head(rng, d)


def any_slot(rng: random.Random, d: Damage) -> int:
    """Pick a slot number: mostly one that exists."""
    if rng.random() < 0.8:
        return rng.randrange(1, d.shape.slots + 1)
    return rng.choice((0, d.shape.slots + 1, d.shape.slots + 2, K["SLOT_MASK"]))
