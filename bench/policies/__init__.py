"""Eviction policies to compare the map with, one file each: simulators that keep keys only.

A policy counts its hits over a whole trace; a key that is missed is written at once. They are made
to be read, not to be fast. To add one: a class with what `Policy` lists, here in POLICIES.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from .belady import Belady
from .fifo import Fifo
from .lru import Lru
from .s3fifo import S3Fifo
from .sieve import Sieve
from .tinylfu import TinyLfu

__all__ = ["POLICIES", "Belady", "Fifo", "Lru", "Policy", "S3Fifo", "Sieve", "TinyLfu"]


class Policy(Protocol):
    """A cache of so many entries.

    Attributes:
        name: as in tables.
        source: where it is described.
    """

    name: ClassVar[str]
    source: ClassVar[str]

    def __init__(self, entries: int) -> None: ...

    @staticmethod
    def missing() -> str:
        """Return the command that installs what it needs; "": nothing is missing."""

    def replay(self, keys: list[int]) -> int:
        """Ask for each key, write it where it is missed; count the hits."""


POLICIES: tuple[type[Policy], ...] = (Lru, Fifo, Sieve, S3Fifo, TinyLfu, Belady)
