"""Least recently used: what most caches do, `cachetools.LRUCache` among them."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar


class Lru:
    """Evicts what was not asked for the longest time."""

    name: ClassVar[str] = "LRU"
    source: ClassVar[str] = "as cachetools.LRUCache, hit by hit"

    def __init__(self, entries: int) -> None:
        self.entries = entries
        self.held: OrderedDict[int, None] = OrderedDict()

    @staticmethod
    def missing() -> str:
        return ""

    def replay(self, keys: list[int]) -> int:
        """Count the hits."""
        held, entries, hits = self.held, self.entries, 0
        for key in keys:
            if key in held:
                hits += 1
                held.move_to_end(key)
            else:
                if len(held) >= entries:
                    held.popitem(last=False)
                held[key] = None
        return hits
