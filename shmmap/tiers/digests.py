"""Digests of what a side has: so few bytes that two sides find out by them where they differ.

A name belongs to one of RANGES ranges, by its hash. The digest of a range is the sum of one number
for each of its names, which is made of the name and its version. A sum, since a side lists its
names in an order of its own; one that it lists twice makes the range look changed, and no more.

xxHash finds what differs by chance. Who writes to a side on purpose can hide a difference, as they
can remove the value itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import xxhash

RANGES = 1024
_SHIFT = 54  # of 64 bits, those that tell RANGES
_SUM = 16  # bytes
_MASK = (1 << 8 * _SUM) - 1
_HEAD = struct.Struct("<8sQ")
_RANGE = struct.Struct(f"<Q{_SUM}s")
_MAGIC = b"shmdig01"


def range_of(name: bytes) -> int:
    """Return the range that a name belongs to."""
    return int(xxhash.xxh64_intdigest(name)) >> _SHIFT


class Digests:
    """What one side had when it was listed.

    Attributes:
        counts: the number of names of each range.
        sums: the digest of each range.
        foreign: names of which the side cannot tell a version; they are in no digest.

    >>> mine, theirs = Digests(), Digests()
    >>> mine.add(b"a", b"1")
    >>> mine.differing(theirs) == [range_of(b"a")], mine.differing(mine), len(mine)
    (True, [], 1)
    """

    def __init__(self) -> None:
        self.counts = [0] * RANGES
        self.sums = [0] * RANGES
        self.foreign = 0

    def add(self, name: bytes, version: bytes) -> None:
        """Add a name. The version has a length that is always the same."""
        at = range_of(name)
        self.counts[at] += 1
        self.sums[at] += xxhash.xxh128_intdigest(version + name)

    def __len__(self) -> int:
        return sum(self.counts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digests) and not self.differing(other)

    __hash__ = None  # type: ignore[assignment]  # it grows

    def __repr__(self) -> str:
        return f"<Digests of {len(self):,} names>"

    def differing(self, other: Digests) -> list[int]:
        """Return the ranges that are not the same in both."""
        return [
            at for at in range(RANGES)
            if self.counts[at] != other.counts[at] or (self.sums[at] - other.sums[at]) & _MASK
        ]

    def to_bytes(self) -> bytes:
        """Return them as bytes, for a file or another machine: 24 for each range, and 16."""
        ranges = (
            _RANGE.pack(count, (number & _MASK).to_bytes(_SUM, "little"))
            for count, number in zip(self.counts, self.sums, strict=True)
        )
        return b"".join((_HEAD.pack(_MAGIC, self.foreign), *ranges))

    @classmethod
    def from_bytes(cls, data: bytes) -> Digests:
        """Return what `to_bytes` has made bytes of; raises ValueError for what it has not."""
        if len(data) != _HEAD.size + RANGES * _RANGE.size or not data.startswith(_MAGIC):
            raise ValueError(f"{data[:8]!r}... ({len(data):,} bytes) are no digests of a Tiered")
        made = cls()
        made.foreign = _HEAD.unpack_from(data)[1]
        for at, (count, number) in enumerate(_RANGE.iter_unpack(data[_HEAD.size:])):
            made.counts[at], made.sums[at] = count, int.from_bytes(number, "little")
        return made


def groups(
    ranges: Iterable[int], mine: Digests, theirs: Digests, at_most: int
) -> Iterable[set[int]]:
    """Cut ranges into groups, of so many names of both sides together where one range has not
    more."""
    group: set[int] = set()
    names = 0
    for at in ranges:
        more = mine.counts[at] + theirs.counts[at]
        if group and names + more > at_most:
            yield group
            group, names = set(), 0
        group.add(at)
        names += more
    if group:
        yield group
