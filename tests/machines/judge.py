"""What a history shows: was every answer one that its consistency allows?

Each key is written by one process, and each value once. All times are of one clock. Nothing here
knows of shmmap: tests/fault/machines/test_judge.py plants a violation of each kind.

**Was there an order?** The writes and reads of one value make a *zone*: from where the first of
them ended to where the last one began, if that is later: in all of it the key had that value. If
the last one began before the first had ended, it is a moment somewhere between the two. There is
an order of all operations, each at a moment between its begin and its end, if and only if no two
zones of the first kind overlap, and none of the second kind lies within one of the first (P. B.
Gibbons, E. Korach, Testing Shared Memories, 1997). A write of which nobody knows whether it was
done has no end; if nobody has read it, it is left out.

**A bound** makes the reads longer: what was right at a moment between `began - bound` and `ended`.

**Who comes first?** A value is certainly older than another one if it was there, or had been
answered, before the write of the other began.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

NEVER = float("inf")
ABSENT = 0


class Write(NamedTuple):
    """A write of a value that is written once. `ended`: when it was acknowledged; NEVER: nobody
    knows whether it was done, or when it will be."""

    key: str
    value: int
    began: float
    ended: float


class Read(NamedTuple):
    """An answer; the value ABSENT: there is none."""

    key: str
    value: int
    began: float
    ended: float


class Register:
    """All writes of one key, and of each value when it was certainly there.

    Args:
        writes: in the order of their begin.
        wipes: (began, ended) of what took the key away, in order.
        reads: answers of anybody, that tell when a value was there at the latest.
    """

    def __init__(
        self, writes: Sequence[Write], reads: Iterable[Read],
        wipes: Sequence[tuple[float, float]] = (),
    ) -> None:
        self._wiped = [began for began, _ in wipes]
        key = writes[0].key if writes else ""
        first = Write(key, ABSENT, -NEVER, -NEVER)
        gone = [Write(key, -n, *wipe) for n, wipe in enumerate(wipes, 1)]
        self.writes = sorted([first, *writes, *gone], key=lambda one: one.began)
        self.of = {one.value: one for one in self.writes}
        self.there = {one.value: one.ended for one in self.writes}
        """When each value was there at the latest, for the first time."""
        for read in reads:
            value = self.value_of(read)
            if value in self.there:
                self.there[value] = min(self.there[value], read.ended)
        acked = [one for one in self.writes if one.ended < NEVER]
        self._begun = [one.began for one in acked]
        self._replaced = [one.ended for one in acked]
        for n in range(len(acked) - 2, -1, -1):
            self._replaced[n] = min(self._replaced[n], self._replaced[n + 1])
        own = sorted((one.ended, one.began, one.value) for one in acked if one.value > 0)
        self._own_ended, self._own = [one[0] for one in own], own

    def value_of(self, read: Read) -> int:
        """Return what an answer says; after a wipe nothing is another nothing."""
        if read.value != ABSENT:
            return read.value
        return -bisect_right(self._wiped, read.ended)

    def is_before(self, one: int, other: int) -> bool:
        """Tell whether a value is certainly older than another."""
        return one != other and self.there[one] <= self.of[other].began

    def age(self, read: Read) -> float:
        """Return how many seconds before a read its answer had certainly been replaced; 0: no."""
        there = self.there.get(self.value_of(read), NEVER)
        n = bisect_left(self._begun, there)
        while n < len(self._begun) and self._begun[n] == there == -NEVER:
            n += 1  # the first nothing
        return max(0.0, read.began - self._replaced[n]) if n < len(self._replaced) else 0.0

    def newest_before(self, at: float) -> int:
        """Return the value that was acknowledged last before some time."""
        n = bisect_left(self._own_ended, at) - 1
        return self._own[n][2] if n >= 0 else ABSENT


def atomic(register: Register, reads: Iterable[Read], bound_s: float = 0.0) -> list[str]:
    """List what no order explains, of one key."""
    first_end = {one.value: one.ended for one in register.writes}
    last_begin = {one.value: one.began for one in register.writes}
    read_ones, found = set(), []
    for read in reads:
        value = register.value_of(read)
        if value not in register.of:
            found.append(f"{read.key}: {read.value} was answered, and never written")
        elif read.ended < register.of[value].began:
            found.append(f"{read.key}: {value} was answered before it was written")
        else:
            read_ones.add(value)
            first_end[value] = min(first_end[value], read.ended)
            last_begin[value] = max(last_begin[value], read.began - bound_s)
    forward, moments = [], []
    for one in register.writes:
        end, begin = first_end[one.value], last_begin[one.value]
        if one.ended == NEVER and one.value not in read_ones:
            continue
        (forward if end < begin else moments).append((min(end, begin), max(end, begin), one.value))
    forward.sort()
    key = register.writes[-1].key
    for (_, end, value), (begin, _, other) in pairwise(forward):
        if begin < end:
            found.append(f"{key}: {value} was answered {end - begin:.4f} s after {other} was there")
    begins = [begin for begin, _, _ in forward]
    for begin, end, value in moments:
        n = bisect_left(begins, begin) - 1
        if n >= 0 and end < forward[n][1]:
            found.append(f"{key}: {forward[n][2]} was answered before and after {value} was there")
    return found


def never_back(registers: dict[str, Register], reads: Iterable[Read]) -> list[str]:
    """List where one process, whose answers these are in order, has gone back."""
    last: dict[str, int] = {}
    seen: dict[str, set[int]] = defaultdict(set)
    found = []
    for read in reads:
        register = registers[read.key]
        value, before = register.value_of(read), last.get(read.key)
        if value not in register.of:
            found.append(f"{read.key}: {read.value} was answered, and never written")
            continue
        if before is not None and value != before and (
            value in seen[read.key] or register.is_before(value, before)
        ):
            found.append(f"{read.key}: {value} after {before}, at {read.began:.3f}")
        last[read.key] = value
        seen[read.key].add(value)
    return found


def own_writes(registers: dict[str, Register], reads: Iterable[Read]) -> list[str]:
    """List where a machine has not read what was acknowledged to it. `registers`: of its keys."""
    found = []
    for read in reads:
        register = registers.get(read.key)
        if register is None or (value := register.value_of(read)) not in register.of:
            continue
        newest = register.newest_before(read.began)
        if register.is_before(value, newest):
            found.append(f"{read.key}: {value} was answered, with {newest} acknowledged before")
    return found


def lost(acknowledged: Iterable[str], there: Iterable[str]) -> list[str]:
    """List what was acknowledged and is not there."""
    return sorted(set(acknowledged) - set(there))
