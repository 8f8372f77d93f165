"""W-TinyLFU, as the package theine has it."""

from __future__ import annotations

import importlib.util
from typing import Any, ClassVar


class TinyLfu:
    """A sketch of how often keys were asked for decides what a small window lets in."""

    name: ClassVar[str] = "W-TinyLFU (theine)"
    source: ClassVar[str] = "Einziger, Friedman, Manes, ACM ToS 2017; theine's defaults"

    def __init__(self, entries: int) -> None:
        from theine import Cache

        self.cache: Any = Cache(entries)

    @staticmethod
    def missing() -> str:
        return "" if importlib.util.find_spec("theine") else "pip install theine"

    def replay(self, keys: list[int]) -> int:
        """Count the hits."""
        get, put, hits = self.cache.get, self.cache.set, 0
        for key in keys:
            if get(key)[1]:
                hits += 1
            else:
                put(key, key)
        return hits
