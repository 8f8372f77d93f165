"""What counts the hits of one rate: in the map, in the store behind a tier, or in shares of it."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple, Protocol

from ..checks import Key
from ..windows import Hit, Rate


class Step(Enum):
    """What comes before an answer.

    AGAIN: others have counted a hit meanwhile, so it is tried again. ASKS: the next step waits for
    the store, and so would a coroutine's event loop.
    """

    AGAIN = "again"
    ASKS = "asks"


class Rule(NamedTuple):
    """What is counted.

    Attributes:
        algorithm: the name of one of `windows.ALGORITHMS`.
        prefix, kind: which hits: `kind` is the algorithm and the time.
    """

    rate: Rate
    algorithm: str
    prefix: Key
    kind: str

    def place(self, key: Key) -> Key:
        """Return what a key's hits are kept under: what two kinds keep of it are two entries."""
        return self.prefix, self.kind, key


class Counter(Protocol):
    """Counts the hits of one rule. All methods raise ShmMapError where it cannot be counted."""

    def tries(self, key: Key, cost: int) -> Iterator[Step | Hit]:
        """Count one hit: steps, and then the answer."""

    def look(self, key: Key, cost: int) -> tuple[Hit, Hit]:
        """Return what such a hit would come to, and how it stands."""

    def reset(self, key: Key) -> bool:
        """Forget the hits of a key; tell whether there were any."""
