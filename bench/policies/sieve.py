"""SIEVE: a queue whose hand stays where it evicted."""

from __future__ import annotations

from typing import ClassVar


class Sieve:
    """A hand goes from the oldest to the newest; it clears the mark of what was asked for since
    it came by, and evicts the first without one. Nothing moves; new entries come at the end."""

    name: ClassVar[str] = "SIEVE"
    source: ClassVar[str] = "Zhang et al., NSDI 2024"

    def __init__(self, entries: int) -> None:
        self.entries = entries
        self.asked: dict[int, bool] = {}
        self.newer: dict[int, int | None] = {}
        self.older: dict[int, int | None] = {}
        self.newest: int | None = None
        self.oldest: int | None = None
        self.hand: int | None = None

    @staticmethod
    def missing() -> str:
        return ""

    def replay(self, keys: list[int]) -> int:
        """Count the hits."""
        asked, hits = self.asked, 0
        for key in keys:
            if key in asked:
                hits += 1
                asked[key] = True
            else:
                if len(asked) >= self.entries:
                    self.evict()
                self.append(key)
        return hits

    def append(self, key: int) -> None:
        """Put a key at the newest end."""
        self.asked[key] = False
        self.newer[key], self.older[key] = None, self.newest
        if self.newest is None:
            self.oldest = key
        else:
            self.newer[self.newest] = key
        self.newest = key

    def evict(self) -> None:
        """Move the hand to the first key without a mark, and drop that."""
        key = self.oldest if self.hand is None else self.hand
        while key is not None and self.asked[key]:
            self.asked[key] = False
            key = self.newer[key]
            key = self.oldest if key is None else key
        assert key is not None
        newer, older = self.newer.pop(key), self.older.pop(key)
        if newer is None:
            self.newest = older
        else:
            self.older[newer] = older
        if older is None:
            self.oldest = newer
        else:
            self.newer[older] = newer
        self.hand = newer
        del self.asked[key]
