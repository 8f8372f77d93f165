"""Values that say who wrote them, and books of what a shared store must hold in the end.

A torn value, one of another key or one that nobody wrote is found when it is read, as every
value is one signature again and again. A write that got lost is found afterwards: what is there
must be the last write of one of the workers, or what the store was filled with if none wrote.
"""

from __future__ import annotations

import pickle
import random
import struct
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from ..core.workloads import VALUE_BYTES

FILLED = (0, 0)  # writer and number of what the store was filled with; workers begin at 1
_SIGNATURE = struct.Struct("<Q")
_ENTRY_BITS, _WRITER_BITS, _NUMBER_BITS = 20, 8, 20  # the other 16 tell a torn signature
MOST_ENTRIES = 1 << _ENTRY_BITS
_BODY_BITS = _ENTRY_BITS + _WRITER_BITS + _NUMBER_BITS
_MIXER = 0x9E3779B97F4A7C15  # odd: every bit of the body reaches the check bits


class Content(Hashable, Protocol):
    """What the values of a store are made of; pickled, so it is made of numbers."""

    @property
    def value_bytes(self) -> int:
        """Return the room that a value needs."""

    def make(self, entry: int, writer: int, number: int) -> Any:
        """Return what this writer's write with this number puts at this entry."""

    def origin(self, value: Any, entry: int) -> tuple[int, int] | None:
        """Return writer and number of an entry's value; None: nobody wrote it so."""

    def wrong(self, answers: Iterable[tuple[int, Any]]) -> str:
        """Say what is wrong with one worker's answers, each with its entry; "": nothing."""


class SignedBytes(NamedTuple):
    """Bytes: a signature of 8 (entry, writer, number, check bits) again and again."""

    length: int

    @property
    def value_bytes(self) -> int:
        """Return the room that a value needs."""
        return self.length

    def make(self, entry: int, writer: int, number: int) -> bytes:
        """Return such a value."""
        body = (number << _WRITER_BITS | writer) << _ENTRY_BITS | entry
        check = (body * _MIXER & (1 << 64) - 1) >> _BODY_BITS
        signature = _SIGNATURE.pack(check << _BODY_BITS | body)
        return (signature * (self.length // len(signature) + 1))[: self.length]

    def origin(self, value: Any, entry: int) -> tuple[int, int] | None:
        """Return its writer and number."""
        if not isinstance(value, (bytes, bytearray, memoryview)) or len(value) != self.length:
            return None
        body = _SIGNATURE.unpack_from(value)[0] >> _ENTRY_BITS
        writer = body & (1 << _WRITER_BITS) - 1
        number = body >> _WRITER_BITS & (1 << _NUMBER_BITS) - 1
        return (writer, number) if value == self.make(entry, writer, number) else None

    def wrong(self, answers: Iterable[tuple[int, Any]]) -> str:
        """Find values that are torn, foreign or missing."""
        return _first_without_origin(self, answers)


class SignedObjects(NamedTuple):
    """Small dicts as a service keeps them: a session with its rights and times."""

    @property
    def value_bytes(self) -> int:
        """Return the room that one needs, pickled; the largest numbers included."""
        return len(pickle.dumps(self.make(1 << _ENTRY_BITS, 1 << _WRITER_BITS, 1 << _NUMBER_BITS)))

    def make(self, entry: int, writer: int, number: int) -> dict[str, Any]:
        """Return such an object; about 250 bytes when pickled."""
        return {
            "entry": entry, "writer": writer, "number": number,
            "name": f"visitor {entry} of {writer}", "rights": ["read", "write", f"own-{number}"],
            "seen": [1.5 * number + step for step in range(8)], "active": True, "note": None,
        }

    def origin(self, value: Any, entry: int) -> tuple[int, int] | None:
        """Return its writer and number."""
        if not isinstance(value, dict) or not {"writer", "number"} <= value.keys():
            return None
        writer, number = value["writer"], value["number"]
        return (writer, number) if value == self.make(entry, writer, number) else None

    def wrong(self, answers: Iterable[tuple[int, Any]]) -> str:
        """Find objects that are torn, foreign or missing."""
        return _first_without_origin(self, answers)


class Counters(NamedTuple):
    """Numbers that only go up."""

    @property
    def value_bytes(self) -> int:
        """Return the room that a value needs: as much as elsewhere, a counter needs less."""
        return VALUE_BYTES

    def make(self, entry: int, writer: int, number: int) -> int:
        """Return what a counter begins with."""
        return 0

    def origin(self, value: Any, entry: int) -> tuple[int, int] | None:
        """Say whether it is a count."""
        return FILLED if isinstance(value, int) and value >= 0 else None

    def wrong(self, answers: Iterable[tuple[int, Any]]) -> str:
        """Find an answer that is no more than the one before: two got the same, or it went back."""
        last: dict[int, int] = {}
        for entry, value in answers:
            if not isinstance(value, int) or value <= last.get(entry, 0):
                return f"key {entry}: incr gave {value!r:.40} after {last.get(entry, 0)}"
            last[entry] = value
        return ""


def _first_without_origin(content: Content, answers: Iterable[tuple[int, Any]]) -> str:
    for entry, value in answers:
        if content.origin(value, entry) is None:
            return f"key {entry}: {_told(value)}"
    return ""


def _told(value: Any) -> str:
    return "missing" if value is None else f"torn or foreign: {value!r:.60}"


class Ledger:
    """The last write of each worker to each entry, held against what the store gives.

    Args:
        read: gives the values of a list of entries.
    """

    def __init__(self, content: Content, read: Callable[[list[int]], list[Any]]) -> None:
        self.content = content
        self.read = read
        self.last: dict[int, dict[int, int]] = {}
        self.fresh: dict[int, None] = {}  # a set in the order of writing: the same in every run

    def note(self, writer: int, wrote: Mapping[int, int], operations: int) -> None:
        """Take down a worker's last number for each entry that it wrote."""
        self.last.setdefault(writer, {}).update(wrote)
        self.fresh.update(dict.fromkeys(wrote))

    def look(self, entries: list[int]) -> str:
        """Read these entries, before any worker wrote."""
        for entry, value in zip(entries, self.read(entries), strict=True):
            if self.content.origin(value, entry) != FILLED:
                return f"key {entry}, after filling: {_told(value)}"
        return ""

    def check(self, most: int) -> str:
        """Read some of the entries that were written since the last check, at most so many."""
        entries = list(self.fresh)
        if len(entries) > most:
            entries = random.Random(len(entries)).sample(entries, most)
        self.fresh = {}
        for entry, value in zip(entries, self.read(entries), strict=True):
            found = self.content.origin(value, entry)
            if found is None:
                return f"key {entry}, read back: {_told(value)}"
            last = {(who, wrote[entry]) for who, wrote in self.last.items() if entry in wrote}
            if found not in last:
                return f"key {entry}: a write of worker {found[0]} is there, and not its last"
        return ""


class Tally:
    """How often all workers together raised one counter, held against what it says.

    Args:
        read: raises the counter once for each of a list of entries; gives what it says then.
    """

    def __init__(self, read: Callable[[list[int]], list[Any]]) -> None:
        self.read = read
        self.total = 0

    def note(self, writer: int, wrote: Mapping[int, int], operations: int) -> None:
        """Count a worker's operations."""
        self.total += operations

    def look(self, entries: list[int]) -> str:
        """Raise it so often; compare the sum."""
        self.total += len(entries)
        said = self.read([0] * len(entries))[-1]
        if said == self.total:
            return ""
        difference = f", {self.total - said} lost" if isinstance(said, int) else ""
        return f"after {self.total} increments the counter said {said!r}{difference}"

    def check(self, most: int) -> str:
        """Raise it once; compare the sum."""
        return self.look([0])
