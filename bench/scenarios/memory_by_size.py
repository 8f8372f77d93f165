"""How much memory does an entry take, by its size?

Asked of our map, and of stores that can say what they hold. Every store gets the same entries, and
is asked for all it holds for them:

- shmmap: the pages of all its objects in /dev/shm, room for the entries that may still come and
  the part that does not grow included;
- lmdb: the pages of its files in /dev/shm, likewise;
- redis: `used_memory` less that of its connections, and memcached: the pages of its slabs and its
  hash table, each less what the empty server had, so that code and buffers are not counted;
- dict: the bytes that Python has allocated for it, its keys and its values (tracemalloc), without
  what the allocator loses to its arenas. Each process would have one of its own.

Where that is unequal, it is to our loss: what is fixed counts for shmmap and lmdb only, and keys
come in their order, which fills lmdb's pages best.
"""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from ..core.peer import Peer
from ..core.progress import Progress
from ..core.results import Row
from ..core.scenario import Plot, Scenario, Setup, take_turns
from ..core.workloads import SEED, value_of
from ..peers import ShmMapPeer
from .families import MEMORY

KEY = 8  # bytes of a key here, so that the smallest payload has a value of 8
MOST_ENTRIES = 100_000
VERIFIED = 1_000  # entries of each store that are read back


class Told(ShmMapPeer):
    """Our map, told the length of the keys too: they are shorter here than it expects."""

    key_size = KEY


class MemoryBySize(NamedTuple):
    """All stores that can say what they hold, at each size of payload."""

    name: str
    title: str
    family: str = MEMORY
    quick: bool = True
    plots: tuple[Plot, ...] = (
        Plot("", "Memory held for each byte of keys and values", "payload_bytes",
             "amplification", "x"),
    )

    def lanes(self, setup: Setup) -> list[StoreLane]:
        """List each peer at each size."""
        scale = setup.scale
        return [
            StoreLane(self.name, Told if kind is ShmMapPeer else kind, payload,
                  min(MOST_ENTRIES, scale.curve_bytes // payload))
            for payload in scale.curve
            for kind in setup.peers
            if kind.name in HELD
        ]

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return len(self.lanes(setup))

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Fill each store once: the same entries take the same memory again."""
        return take_turns(self.lanes(setup), 1, progress)


class StoreLane:
    """One peer with entries of one size; it lives only while it is looked at."""

    def __init__(self, scenario: str, kind: type[Peer], payload: int, entries: int) -> None:
        self.scenario = scenario
        self.kind = kind
        self.payload = payload
        self.entries = entries
        self.held: list[int] = []
        self.problem = ""

    def repeat(self, number: int) -> None:
        """Fill the store anew, measure it, read some entries back."""
        if self.kind.name == "dict":
            self.held.append(self._traced())
            return
        length = self.payload - KEY
        entries = {key_of(n): value_of(key_of(n), length) for n in range(self.entries)}
        with closing(self.kind(self.entries, length)) as peer:
            before = HELD[self.kind.name](peer)
            peer.fill(entries)
            whole = HELD[self.kind.name](peer)
            self.held.append(whole - (before if self.kind.name in LESS_EMPTY else 0))
            self.verify(peer)

    def _traced(self) -> int:
        """Fill a dict with keys and values made for it, and count what Python allocated."""
        length = self.payload - KEY
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            with closing(self.kind(self.entries, length)) as peer:
                peer.fill({key_of(n): value_of(key_of(n), length) for n in range(self.entries)})
                held = tracemalloc.get_traced_memory()[0] - before
                self.verify(peer)
        finally:
            tracemalloc.stop()
        return held

    def verify(self, peer: Peer) -> None:
        """Read entries back, any: a store that dropped some would look small."""
        chosen = random.Random(SEED).sample(range(self.entries), min(VERIFIED, self.entries))
        for number in chosen:
            key = key_of(number)
            got = peer.read(key)
            if got != value_of(key, self.payload - KEY):
                self.problem = f"{key} gave {str(got)[:40]!r}"
                return

    def row(self) -> Row:
        """Return what was held for each byte."""
        payload = self.entries * self.payload
        return Row.of(
            self.scenario, self.kind.name,
            {"amplification": [held / payload for held in self.held]}, self.problem,
            point={"payload_bytes": self.payload},
            facts={"entries": self.entries, "held_bytes": self.held[-1]},
        )

    def close(self) -> None:
        """Nothing is open between repetitions."""


def key_of(number: int) -> str:
    """Return key `number`: 8 ASCII characters, not all of them digits."""
    return f"e{number:0{KEY - 1}d}"


def _shmmap(peer: Any) -> int:
    return int(peer.handle.stats().allocated_bytes)


def _files(peer: Any) -> int:
    return sum(file.stat().st_blocks * 512 for file in Path(peer.address).iterdir())


def _redis(peer: Any) -> int:
    import redis

    with closing(redis.Redis(unix_socket_path=peer.address)) as client:
        told = client.info("memory")
        return int(told["used_memory"]) - int(told["mem_clients_normal"])


def _memcached(peer: Any) -> int:
    from pymemcache.client.base import Client

    with closing(Client(peer.address)) as client:
        slabs, general = client.stats("slabs"), client.stats()
        return int(slabs[b"total_malloced"]) + int(general[b"hash_bytes"])


# How each store is asked; dict's way is another.
HELD: dict[str, Callable[[Any], int]] = {
    "dict": lambda peer: 0, "shmmap": _shmmap, "lmdb": _files, "redis": _redis,
    "memcached": _memcached,
}
LESS_EMPTY = ("redis", "memcached")

SCENARIOS: tuple[Scenario, ...] = (
    MemoryBySize("memory-curve", "memory held for each byte of payload, by the size of entries"),
)
