"""How evenly do keys spread over shards, also keys that were chosen to be alike?"""

from __future__ import annotations

import importlib.util
import random
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations, islice
from typing import Any, NamedTuple

import numpy as np

from ...core.progress import Progress
from ...core.results import Row
from ...core.scenario import Plot, Scenario, Setup
from ...core.workloads import SEED, key_of
from ..families import THE_MAP_ITSELF

Key = str | bytes | int
Hash = Callable[[bytes, int, int], int]  # (encoded key, its type, the map's seed) -> 64 bits
SHARDS = (32, 64, 128)
TOO_UNLIKELY = 1e-4  # divided by the number of tests of a row: see `problem`
WORDS = ("orders", "users", "items", "carts", "search", "static")


def sequential(count: int) -> Iterator[Key]:
    """k...0, k...1, ..."""
    return map(key_of, range(count))


def at_random(count: int) -> Iterator[Key]:
    """Return 16 random bytes."""
    rng = random.Random(SEED)
    return (rng.randbytes(16) for _ in range(count))


def like_urls(count: int) -> Iterator[Key]:
    """Return addresses of pages, which have most of their characters in common."""
    rng = random.Random(SEED)
    return (
        f"https://www.example.com/{rng.choice(WORDS)}/{n // 50}/view?id={n}&page={n % 7}"
        for n in range(count)
    )


def one_bit(count: int) -> Iterator[Key]:
    """Return one kilobyte, with one or two of its bits flipped."""
    base = random.Random(SEED).getrandbits(8192)
    flips = ((n,) for n in range(8192))
    pairs = combinations(range(8192), 2)
    for bits in islice((*flips, *islice(pairs, max(0, count - 8192))), count):
        value = base
        for bit in bits:
            value ^= 1 << bit
        yield value.to_bytes(1024, "little")


def multiples(power: int) -> Callable[[int], Iterator[Key]]:
    """Return multiples of 2**power: all lower bits are 0."""
    return lambda count: (n << power for n in range(count))


def long_prefix(count: int) -> Iterator[Key]:
    """Return keys that differ after one kilobyte only."""
    return (f"{'p' * 1024}{n}" for n in range(count))


def strided(count: int) -> Iterator[Key]:
    """Return every 4,096th sequential key."""
    return (key_of(n * 4096) for n in range(count))


KEYS: dict[str, Callable[[int], Iterator[Key]]] = {
    "sequential": sequential,
    "random": at_random,
    "URL-like": like_urls,
    "one bit": one_bit,
    "multiples of 2^12": multiples(12),
    "multiples of 2^40": multiples(40),
    "prefix of 1 kB": long_prefix,
    "stride 4,096": strided,
}


def shmmap_hash(data: bytes, kind: int, seed: int) -> int:
    """Hash an encoded key as every map does."""
    from shmmap.memory._hash_cy import hash_of

    return int(hash_of(data, kind, seed))


def encoded(keys: Iterable[Key]) -> list[tuple[int, bytes]]:
    """Encode keys as every map does: (type, bytes)."""
    from shmmap.values._keys_cy import pack

    return list(map(pack, keys))


def hashes(keys: Sequence[tuple[int, bytes]], seed: int, hashed: Hash) -> Any:
    """Hash encoded keys as a map of this seed does: an array of uint64."""
    return np.fromiter((hashed(data, kind, seed) for kind, data in keys), np.uint64, len(keys))


def loads(found: Any, shards: int) -> Any:
    """Count the keys of each shard: a map takes the top bits, as many as number its shards."""
    top = found >> np.uint64(64 - (shards.bit_length() - 1))
    return np.bincount(top.astype(np.intp), minlength=shards)


def judge(found: Any) -> dict[str, float]:
    """Compare the keys of each shard with what chance gives.

    chi2_p: probability of at least this chi-square from keys thrown at random. ks_p: the same of
    the largest distance (Kolmogorov-Smirnov) between the loads and the binomial distribution, which
    sees shards that are too much alike as well; on the large side, as loads are whole numbers of a
    known sum. Without scipy there are no p-values.
    """
    shards, count = len(found), int(found.sum())
    mean = count / shards
    chi2 = float(((found - mean) ** 2).sum() / mean)
    figures = {"spread": float(found.max()) / mean, "chi2": chi2 / (shards - 1)}
    if importlib.util.find_spec("scipy") is None:
        return figures
    from scipy import stats

    chance = stats.binom(count, 1 / shards)
    return {
        **figures,
        "chi2_p": float(stats.chi2.sf(chi2, shards - 1)),
        "ks_p": float(stats.kstest(found, chance.cdf).pvalue),
    }


def usual_spread(count: int, shards: int) -> float:
    """Return the median spread of keys that are thrown at random."""
    thrown = np.random.default_rng(SEED).multinomial(count, [1 / shards] * shards, size=201)
    return float(np.median(thrown.max(axis=1))) / (count / shards)


class Evenness(NamedTuple):
    """Every kind of keys with several seeds of the hash, the top bits taken as a map takes them.

    Keys, seeds and hash are fixed, so a run gives what every other one gave.
    """

    name: str
    title: str
    plots: tuple[Plot, ...]
    hashed: Hash = shmmap_hash
    family: str = THE_MAP_ITSELF
    quick: bool = True

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return len(KEYS)

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Judge every kind of keys over every number of shards."""
        scale = setup.scale
        rows = []
        for kind, keys in KEYS.items():
            rng, packed = random.Random(SEED), encoded(keys(scale.evenness_keys))
            tried = [
                hashes(packed, rng.getrandbits(64), self.hashed)
                for _ in range(scale.evenness_seeds)
            ]
            rows += [self.row(kind, shards, [loads(each, shards) for each in tried])
                     for shards in SHARDS]
            progress.step()
        return rows

    def row(self, kind: str, shards: int, found: list[Any]) -> Row:
        """Tell what came of one kind of keys over so many shards, for each seed."""
        judged = [judge(each) for each in found]
        samples = {figure: [each[figure] for each in judged] for figure in judged[0]}
        count = int(found[0].sum())
        facts: dict[str, Any] = {"keys": count, "usual_spread": usual_spread(count, shards)}
        if "chi2_p" not in samples:
            facts["p_values"] = "need scipy: pip install scipy"
        return Row.of(self.name, kind, samples, problem(samples), {"shards": shards}, facts)


def problem(samples: dict[str, list[float]]) -> str:
    """Say what chance does not explain. Of so many tests some have small p-values; what counts is
    one that so many tests would hardly ever have, or small ones for most seeds."""
    for figure in ("chi2_p", "ks_p"):
        for p in samples.get(figure, ()):
            if p < TOO_UNLIKELY / len(samples[figure]):
                return f"{figure} {p:.2g}: keys gather in some shards, or avoid others"
        if figure in samples and statistics.median(samples[figure]) < TOO_UNLIKELY**0.5:
            return f"{figure} is small for most seeds"
    return ""


EVENNESS = Evenness(
    "evenness", "keys of 8 kinds over 32, 64 and 128 shards",
    (
        Plot("", "Fullest shard to the mean", "shards", "spread"),
        Plot("p", "Chi-square test of the shards' loads", "shards", "chi2_p"),
    ),
)
SCENARIOS: tuple[Scenario, ...] = (EVENNESS,)
