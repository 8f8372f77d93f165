"""The traces: which keys are asked for, in which order. The same for the same seed.

Each takes the cache's size in entries, so that a trace is as hard for a large cache as for a small
one, and a number of requests; it gives keys as ints. A key that is missed is written at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

Draw = Callable[[int, int, Any], Any]  # (entries, requests, generator) -> numpy array of keys


class Trace(NamedTuple):
    """A named trace.

    Attributes:
        name: as on the command line.
        title: one line.
        draw: makes it.
        least: how many times the cache's entries it asks for, at least.
        most: the largest cache, in entries, that it is drawn for.
    """

    name: str
    title: str
    draw: Draw
    least: int = 0
    most: int = 10_000

    def keys(self, entries: int, requests: int, seed: int) -> list[int]:
        """Return the keys of about so many requests to a cache of so many entries."""
        generator = np.random.default_rng([seed, sum(self.name.encode())])
        drawn = self.draw(entries, max(requests, self.least * entries), generator)
        keys: list[int] = drawn.tolist()
        return keys


def zipf_ranks(skew: float, keys: int, requests: int, generator: Any) -> Any:
    """Draw ranks from 0: rank r with a weight of (r + 1) ** -skew."""
    weights = np.cumsum(np.arange(1, keys + 1, dtype=float) ** -skew)
    ranks = np.searchsorted(weights, generator.random(requests) * weights[-1])
    return np.minimum(ranks, keys - 1)


def zipf(skew: float, times: int, entries: int, requests: int, generator: Any) -> Any:
    """Independent requests for `times` as many keys as the cache holds; the popular anywhere."""
    universe = times * entries
    ranks = zipf_ranks(skew, universe, requests, generator)
    return generator.permutation(universe)[ranks]


def scans(entries: int, requests: int, generator: Any) -> Any:
    """Zipf 0.9; after every two cachefuls of it a scan of one cacheful of keys that nobody asks
    for again."""
    drawn = zipf(0.9, 10, entries, requests, generator)
    at = np.arange(requests)
    scanned = at % (3 * entries) >= 2 * entries
    drawn[scanned] = 10 * entries + at[scanned]
    return drawn


def loop(times: float, entries: int, requests: int, generator: Any) -> Any:
    """The same keys in the same order, again and again: `times` as many as the cache holds."""
    return np.arange(requests) % round(times * entries)


def mixed_loop(entries: int, requests: int, generator: Any) -> Any:
    """Zipf 0.9, and between its requests, one to one, those of a loop of 1.2 cachefuls."""
    drawn = zipf(0.9, 10, entries, requests, generator)
    drawn[1::2] = 10 * entries + np.arange(requests // 2) % round(1.2 * entries)
    return drawn


def drift(every: int, entries: int, requests: int, generator: Any) -> Any:
    """Zipf 0.9 where every so many requests a key becomes the most popular one, and each other
    key sinks by a rank."""
    universe = 10 * entries
    ranks = zipf_ranks(0.9, universe, requests, generator)
    born = np.arange(requests) // every
    return generator.permutation(universe)[(ranks - born) % universe]


def recency(fresh: float, spread: float, entries: int, requests: int, generator: Any) -> Any:
    """Mostly what was asked for not long ago: a share of new keys, else the key of some requests
    ago: half a cacheful in the median, log-normal with this sigma."""
    back = generator.lognormal(np.log(entries / 2), spread, requests).astype(np.int64) + 1
    new = generator.random(requests) < fresh
    back[new] = 0
    keys = np.arange(requests)  # a new key is the number of its request
    earlier = keys - back
    listed = keys.tolist()
    for at, source in enumerate(earlier.tolist()):
        if 0 <= source < at:
            listed[at] = listed[source]
    return np.array(listed)


ZIPF = tuple(
    Trace(f"zipf-{skew:g}", f"Zipf {skew:g} over 10 cachefuls of keys", partial(zipf, skew, 10),
          most=100_000 if skew == 0.99 else 10_000)
    for skew in (0.6, 0.8, 0.9, 0.99, 1.1)
)
TRACES = (
    *ZIPF,
    Trace("zipf-wide", "Zipf 0.9 over 100 cachefuls of keys", partial(zipf, 0.9, 100)),
    Trace("scans", "Zipf 0.9, a third of the requests in scans", scans),
    Trace("loop", "a loop of 1.5 cachefuls", partial(loop, 1.5), 30),
    Trace("loop-long", "a loop of 4 cachefuls", partial(loop, 4.0), 60),
    Trace("loop-mixed", "half Zipf 0.9, half a loop of 1.2 cachefuls", mixed_loop),
    Trace("drift", "Zipf 0.9, a new favourite every 50 requests", partial(drift, 50)),
    Trace("drift-fast", "Zipf 0.9, a new favourite every 5 requests", partial(drift, 5)),
    Trace("recency", "what was asked for lately, a quarter new", partial(recency, 0.25, 1.0)),
    Trace("recency-wide", "lately in a wider sense, a tenth new", partial(recency, 0.1, 2.0)),
)
