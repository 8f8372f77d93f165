"""What is asked of every peer: how much, which keys, which values, in which order."""

from __future__ import annotations

import random
from typing import NamedTuple

SEED = 20
KEY_BYTES = 16
VALUE_BYTES = 100


class Scale(NamedTuple):
    """How much is run.

    Attributes:
        keys: entries in every peer's store.
        hot: keys that the hot scenarios use, spread over all.
        batches: timed batches in a repetition.
        hot_batch: operations in a batch of a hot scenario (elsewhere: keys / batches).
        slow_batch: operations in a batch, at most, for a peer that is slow.
        pure_batch: the same for the map's pure engine.
        repetitions: interleaved repetitions of each scenario.
        processes: numbers of worker processes, where that is varied.
        seconds: one timed stretch of worker processes.
        load_seconds: the same where many peers take turns at many points.
        load_repetitions: such stretches of each peer, interleaved.
        read_shares: shares of reads, where that is varied.
        reader_repetitions: pairs of runs with one reader and with two.
        sizes: bytes of a value, where that is varied.
        many: numbers of processes, of which some are more than there are cores.
        shards: numbers of shards, where that is varied.
        listing: entries of the maps that are listed while others write.
        cleanup_entries: entries of the map that is swept.
        experiment_seconds: one timed stretch of workers, in the experiments.
        experiment_repetitions: interleaved repetitions of each experiment.
        write_shares: percent of writes, where designs are compared.
        builds: whether designs are compared that have to be compiled first.
        patient: whether what takes half a minute each time is asked too.
        evenness_keys: keys of each kind whose shards are looked up.
        evenness_seeds: seeds of the hash, for each kind.
        churn_writes: new keys in each second of an hour's simulated churn.
        boxed_entries: records of the stores that are summed up.
        resized: entries of the map whose shape changes.
        resize_repetitions: how often it goes through all changes.
        memory_bytes: size of the full caches.
        curve: bytes of payload (key and value) of an entry, where memory is compared.
        curve_bytes: payload in all that every store gets there.
        churn_bytes: size of the caches that are churned.
        caches: pairs of (entries, requests) for hit ratios.
        cache_repetitions: seeds of each trace.
        capacities: numbers of entries whose headroom is planned.
        filled: pairs of (entries, maps) that are filled to capacity.
    """

    keys: int = 100_000
    hot: int = 64
    batches: int = 20
    hot_batch: int = 2_048
    slow_batch: int = 20
    pure_batch: int = 500
    repetitions: int = 5
    processes: tuple[int, ...] = (1, 2)
    seconds: float = 0.2
    load_seconds: float = 0.1
    load_repetitions: int = 3
    read_shares: tuple[float, ...] = (0.95, 0.5)
    reader_repetitions: int = 5
    sizes: tuple[int, ...] = (8, 1_024, 65_536)
    many: tuple[int, ...] = (1, 4, 16)
    shards: tuple[int, ...] = (1, 8, 64)
    listing: tuple[int, ...] = (5_000,)
    cleanup_entries: int = 50_000
    experiment_seconds: float = 0.2
    experiment_repetitions: int = 3
    write_shares: tuple[float, ...] = (0.0, 5.0, 50.0)
    builds: bool = False
    patient: bool = False
    evenness_keys: int = 20_000
    evenness_seeds: int = 5
    churn_writes: int = 10
    boxed_entries: int = 50_000
    resized: int = 50_000
    resize_repetitions: int = 3
    memory_bytes: int = 64 * 10**6
    curve: tuple[int, ...] = (64, 1_024, 16_384)
    curve_bytes: int = 4 * 10**6
    churn_bytes: int = 8 * 10**6
    caches: tuple[tuple[int, int], ...] = ((1_000, 50_000), (10_000, 150_000))
    cache_repetitions: int = 1
    capacities: tuple[int, ...] = (1_000, 100_000, 1_000_000)
    filled: tuple[tuple[int, int], ...] = ((1_000, 50), (100_000, 2))


QUICK = Scale()
FULL = QUICK._replace(
    repetitions=15,
    processes=(1, 2, 4, 8),
    seconds=1.0,
    load_seconds=0.12,
    load_repetitions=5,  # fewer cannot be compared
    read_shares=(1.0, 0.99, 0.95, 0.865, 0.75, 0.5, 0.0),
    sizes=(8, 64, 512, 4_096, 32_768, 262_144, 1_048_576),
    many=(1, 2, 4, 8, 16, 32, 64),
    shards=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    listing=(5_000, 100_000),
    cleanup_entries=1_000_000,
    experiment_seconds=0.3,
    experiment_repetitions=5,
    write_shares=(0.0, 0.1, 1.0, 5.0, 13.5, 25.0, 50.0, 100.0),
    builds=True,
    patient=True,
    evenness_keys=100_000,
    evenness_seeds=9,
    churn_writes=50,
    boxed_entries=1_000_000,
    resized=1_000_000,
    resize_repetitions=5,
    curve=(16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192, 16_384, 32_768, 65_536),
    curve_bytes=32 * 10**6,
    churn_bytes=64 * 10**6,
    caches=((1_000, 100_000), (10_000, 300_000), (100_000, 1_500_000)),
    cache_repetitions=5,  # fewer cannot be compared
    filled=((1_000, 200), (100_000, 5)),
)


def key_of(number: int, prefix: str = "k") -> str:
    """Return key `number`: 16 ASCII characters.

    >>> key_of(7)
    'k000000000000007'
    """
    return f"{prefix}{number:0{KEY_BYTES - len(prefix)}d}"


def value_of(label: str, length: int = VALUE_BYTES) -> bytes:
    """Return a value that tells what it was written for.

    >>> value_of("k01", 8)
    b'k01k01k0'
    """
    return (label.encode() * (length // len(label) + 1))[:length]


class Workload:
    """The keys and values of a scale; the same in every process, and for every peer."""

    def __init__(self, scale: Scale, seed: int = SEED) -> None:
        self.scale = scale
        self.keys = [key_of(n) for n in range(scale.keys)]
        self.values = {key: value_of(key) for key in self.keys}
        self.absent = [key_of(n, "absent") for n in range(scale.keys)]
        self.shuffled = self.keys[:]
        random.Random(seed).shuffle(self.shuffled)
        random.Random(seed + 1).shuffle(self.absent)
        self.hot = self.shuffled[: scale.hot]

    def order(self, keyset: str) -> list[str]:
        """Return the keys of one repetition, in order.

        keyset: "hot" (few keys again and again), "shuffled" (all, in one fixed random order),
        "insertion" (all, as they were written), "absent" (as many keys that are not there).
        """
        if keyset == "hot":
            whole = self.scale.hot_batch * self.scale.batches
            return (self.hot * (whole // len(self.hot) + 1))[:whole]
        return {"shuffled": self.shuffled, "insertion": self.keys, "absent": self.absent}[keyset]

    def split(self, keyset: str, limit: int | None = None) -> list[list[str]]:
        """Split one repetition's keys into its batches; of each only the first, up to a limit."""
        keys = self.order(keyset)
        length = len(keys) // self.scale.batches
        kept = length if limit is None else min(length, limit)
        return [keys[n * length : n * length + kept] for n in range(self.scale.batches)]
