"""How many reads, and bytes, does the map answer where entries have many sizes?

A hit of a long one saves more than one of a short one.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np

from ...core.peer import unique_name
from ...core.progress import Progress
from ...core.results import OURS, Row
from ...core.scenario import Plot, Scenario, Setup
from ...peers.own_map import remove
from ...policies import Lru
from ...policies.traces import zipf
from ..families import HIT_RATIOS

MEAN, SIGMA = 500, 1.0  # of the log-normal sizes of values
MOST = 10_000  # entries of the largest cache


class MixedSizes(NamedTuple):
    """Zipf 0.9 over keys with log-normal sizes, in a map with default slots, and in an LRU that
    weighs entries as the map does: by the slots that they take, of which it has as many."""

    name: str
    title: str
    family: str = HIT_RATIOS
    quick: bool = False
    plots: tuple[Plot, ...] = ()

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return len(self.sizes(setup))

    def sizes(self, setup: Setup) -> list[tuple[int, int]]:
        """List (entries, requests)."""
        return [size for size in setup.scale.caches if size[0] <= MOST]

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Replay to both; return a row of each for each size."""
        rows = []
        for entries, requests in self.sizes(setup):
            repetitions = setup.scale.cache_repetitions
            turns = [turn(entries, requests, seed) for seed in range(repetitions)]
            progress.step()
            lru_hits = [one.lru[0] for one in turns]
            for name, pairs in (
                (OURS, [one.ours for one in turns]), (Lru.name, [one.lru for one in turns]),
            ):
                samples = {
                    "hit_percent": [hit for hit, _ in pairs],
                    "byte_hit_percent": [hit for _, hit in pairs],
                    "over_lru": [
                        hit - lru for (hit, _), lru in zip(pairs, lru_hits, strict=True)
                    ],
                }
                rows.append(Row.of(
                    self.name, name, samples, point={"entries": entries},
                    facts={"requests": requests, "slots": turns[-1].slots},
                ))
        return rows


class Turn(NamedTuple):
    """What both did in one repetition: hits, and their bytes, in 100."""

    ours: tuple[float, float]
    lru: tuple[float, float]
    slots: int


def turn(entries: int, requests: int, seed: int) -> Turn:
    """Replay one trace to both."""
    import shmmap
    from shmmap.memory.geometry import slots_needed

    generator = np.random.default_rng([seed, 500])
    keys = zipf(0.9, 10, entries, requests, generator).tolist()
    drawn = generator.lognormal(math.log(MEAN) - SIGMA**2 / 2, SIGMA, 10 * entries)
    sizes = np.maximum(1, drawn).astype(int).tolist()
    m = shmmap.ShmMap.create(
        unique_name(), size=entries * (MEAN + 200) + 10**5, on_full="evict", ephemeral=True
    )
    try:
        shape = m.attachment.geometry
        ours = replay_map(m, keys, sizes)
    finally:
        remove(m)
    slots = shape.shards * (shape.slots - 1)
    # an int of a key takes at most nine bytes
    weights = [slots_needed(9 + size, shape.slot_size) for size in sizes]
    return Turn(ours, replay_lru(slots, keys, sizes, weights), slots)


def replay_map(m: Any, keys: list[int], sizes: list[int]) -> tuple[float, float]:
    """Count the map's hits, and their bytes, in 100."""
    block = bytes(max(sizes))
    hits = hit_bytes = 0
    for key in keys:
        value = m.get(key)
        if value is None:
            m[key] = block[: sizes[key]]
        else:
            hits += 1
            hit_bytes += len(value)
    return 100 * hits / len(keys), 100 * hit_bytes / sum(sizes[key] for key in keys)


def replay_lru(
    room: int, keys: list[int], sizes: list[int], weights: list[int]
) -> tuple[float, float]:
    """Count the hits, and their bytes, of an LRU that holds entries of a total weight."""
    held: OrderedDict[int, None] = OrderedDict()
    used = hits = hit_bytes = 0
    for key in keys:
        if key in held:
            held.move_to_end(key)
            hits += 1
            hit_bytes += sizes[key]
            continue
        held[key] = None
        used += weights[key]
        while used > room:
            victim, _ = held.popitem(last=False)
            used -= weights[victim]
    return 100 * hits / len(keys), 100 * hit_bytes / sum(sizes[key] for key in keys)


SCENARIOS: tuple[Scenario, ...] = (
    MixedSizes("hit-sizes", "hit ratio: Zipf 0.9 over entries of log-normal sizes"),
)
