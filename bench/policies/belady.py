"""Belady's optimum: it knows what comes. No cache can have more hits."""

from __future__ import annotations

import heapq
from typing import ClassVar


class Belady:
    """Evicts what will not be asked for the longest time, what was just written included."""

    name: ClassVar[str] = "optimal (Belady)"
    source: ClassVar[str] = "Belady, IBM Systems Journal 1966: knows the future"

    def __init__(self, entries: int) -> None:
        self.entries = entries

    @staticmethod
    def missing() -> str:
        return ""

    def replay(self, keys: list[int]) -> int:
        """Count the hits. Only for one trace: it starts empty each time."""
        following = self.following(keys)
        due: dict[int, int] = {}  # key -> when it is asked for next
        latest: list[tuple[int, int]] = []  # (-when, key), outdated ones among them
        hits = 0
        for key, when in zip(keys, following, strict=True):
            if key in due:
                hits += 1
            due[key] = when
            heapq.heappush(latest, (-when, key))
            if len(due) > self.entries:
                while True:
                    far, victim = heapq.heappop(latest)
                    if due.get(victim) == -far:
                        break
                del due[victim]
        return hits

    @staticmethod
    def following(keys: list[int]) -> list[int]:
        """Return for each request when its key is asked for the next time; never: after the end.

        >>> Belady.following([7, 8, 7])
        [2, 4, 5]
        """
        last: dict[int, int] = {}
        found = [0] * len(keys)
        for at in range(len(keys) - 1, -1, -1):
            # each "never" is another moment: a heap's entry tells a key and a moment apart
            found[at] = last.get(keys[at], len(keys) + at)
            last[keys[at]] = at
        return found
