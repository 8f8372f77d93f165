"""What this machine has written, and the store has not yet: a map of its own.

    (tag, the store's name)    deadline: 8 bytes, kind: 1 byte, the value, as a copy has it

A key has one record, its last write: so the order of a key is that of the map, and what was
overwritten before the store had it is never sent. A removal is a record that ends after its
deadline. `deadline`: nanoseconds since boot, little-endian; 0: none. `tag` tells the tier from
others.

The map evicts nothing. Where it is full, a write waits for the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ..checks import Key
from ..map import ShmMap
from ..memory._clock_cy import Clock

_DEADLINE = 8  # bytes


class Record(NamedTuple):
    """A write that the store does not have yet.

    Attributes:
        version: of its entry in the journal's map; it rises from one write of a key to the next.
        deadline: nanoseconds since boot; 0: it does not expire.
        kind, data: the value, as a copy has it; kind None: the key is removed.
    """

    version: int
    deadline: int = 0
    kind: int | None = None
    data: bytes = b""


class Journal:
    """The records of one tier in a map."""

    def __init__(self, m: ShmMap, tag: int) -> None:
        self.map = m
        self.tag = tag
        self.now = Clock().now_ns

    def _place(self, name: bytes) -> Key:
        return self.tag, name

    def put(self, name: bytes, kind: int | None, data: bytes, ttl_s: float | None) -> None:
        """Write a record; a removal has no kind. Raises MapFull, EntryTooLarge: there is none."""
        deadline = 0 if ttl_s is None else max(1, self.now() + int(ttl_s * 1e9))
        head = deadline.to_bytes(_DEADLINE, "little")
        self.map.set(
            self._place(name), head if kind is None else b"".join((head, bytes((kind,)), data)),
            None,
        )

    def look(self, name: bytes) -> Record | None:
        """Return what waits for the store under a name."""
        found: Any
        found, version = self.map.get_versioned(self._place(name))
        if type(found) is not bytes or len(found) < _DEADLINE:
            return None
        deadline = int.from_bytes(found[:_DEADLINE], "little")
        if len(found) == _DEADLINE or (deadline and deadline <= self.now()):
            return Record(version, deadline)
        return Record(version, deadline, found[_DEADLINE], found[_DEADLINE + 1:])

    def drop(self, name: bytes, record: Record) -> bool:
        """Remove a record; False: it has been overwritten meanwhile, or is gone."""
        return bool(self.map.cas(self._place(name), b"", record.version, 0))

    def names(self) -> Iterator[bytes]:
        """Yield the names of which a record waits; some that come or go meanwhile may be missed."""
        for key in self.map:
            if _is_place(key) and key[0] == self.tag:
                yield key[1]

    def is_empty(self) -> bool:
        """Tell whether no record waits, of this tier or of others."""
        return not any(_is_place(key) for key in self.map)


def _is_place(key: Any) -> bool:
    return isinstance(key, tuple) and len(key) == 2 and isinstance(key[1], bytes)
