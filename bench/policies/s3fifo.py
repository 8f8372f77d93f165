"""S3-FIFO: a small queue that what is asked for once does not leave, and a main queue."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

SMALL = 10  # the small queue has a tenth of the entries
MOST = 3  # hits are counted up to here
ENOUGH = 2  # hits that bring a key from the small queue to the main one


class S3Fifo:
    """New keys wait in the small queue; from its end they go to the main queue if they were asked
    for, else they are evicted and remembered. A remembered key goes to the main queue at once;
    there each hit is worth another round."""

    name: ClassVar[str] = "S3-FIFO"
    source: ClassVar[str] = "Yang et al., SOSP 2023, the paper's parameters"

    def __init__(self, entries: int) -> None:
        self.entries = entries
        self.small_size = max(1, entries // SMALL)
        self.hits_of: dict[int, int] = {}
        self.small: OrderedDict[int, None] = OrderedDict()
        self.main: OrderedDict[int, None] = OrderedDict()
        self.ghosts: OrderedDict[int, None] = OrderedDict()

    @staticmethod
    def missing() -> str:
        return ""

    def replay(self, keys: list[int]) -> int:
        """Count the hits."""
        hits_of, hits = self.hits_of, 0
        for key in keys:
            if key in hits_of:
                hits += 1
                if hits_of[key] < MOST:
                    hits_of[key] += 1
                continue
            while len(hits_of) >= self.entries:
                self.evict()
            hits_of[key] = 0
            if key in self.ghosts:
                del self.ghosts[key]
                self.main[key] = None
            else:
                self.small[key] = None
        return hits

    def evict(self) -> None:
        """Take one step towards a free place."""
        if len(self.small) >= self.small_size or not self.main:
            key, _ = self.small.popitem(last=False)
            if self.hits_of[key] >= ENOUGH:
                self.hits_of[key] = 0
                self.main[key] = None
                return
            self.ghosts[key] = None
            if len(self.ghosts) > self.entries - self.small_size:
                self.ghosts.popitem(last=False)
        else:
            key, _ = self.main.popitem(last=False)
            if self.hits_of[key]:
                self.hits_of[key] -= 1
                self.main[key] = None
                return
        del self.hits_of[key]
