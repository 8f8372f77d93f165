"""First in, first out: the least that a cache can do."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar


class Fifo:
    """Evicts what was written the longest time ago."""

    name: ClassVar[str] = "FIFO"
    source: ClassVar[str] = "a queue"

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
            else:
                if len(held) >= entries:
                    held.popitem(last=False)
                held[key] = None
        return hits
