"""The shards of a map as seen from outside: which of them has which part of the hash, and what is
in them. See `inspection`.

While a map moves to another geometry, its table of generations says who has what; but a group of
shards that has just moved is told by MOVED in an old one's header, which is the token in the names
of the new ones until these are renamed. What is left of an old shard then is not counted. What
moves on meanwhile is looked at again from the start, so that each entry is counted once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from ..lifecycle.control import is_sound, shape_of
from ..lifecycle.stats import OF_SHARDS
from ..memory import geometry
from ..memory._clock_cy import Clock
from ..memory.layout import SHARD, constants, record_bytes
from ..memory.table import UNITS, Table, read_table, row_of
from ..memory.words import ControlWords, GenerationWords, ShardWords
from ..shard._expiry_cy import base_of, last_due
from ..system import segment
from .judging import open_file, read_control
from .seen import SeenMap, SeenShard

K = constants()
_CHUNK = 1 << 20
_TRIES = 16  # of a map that is moving on while it is looked at


def shards_of(seen: SeenMap, unit: int | None = None) -> list[SeenShard]:
    """Read the shard headers of a live map, those of each part of the hash once, in its order.

    `unit`: only those around that unit of the hash. Their entries are not counted: 0.
    """
    control = seen.control
    assert control is not None
    for _ in range(_TRIES):
        walk = _Walk(seen.name, control, unit is None)
        found = walk.run(unit)
        if not walk.is_behind:
            break
        newer, _ = read_control(segment.control_name(seen.name, seen.flavour))
        if newer is None or newer.NONCE != control.NONCE or not is_sound(newer) or (
            newer.TABLE == control.TABLE
        ):
            break  # it is as it was: what is gone was lost
        control = newer
    return found


def sums_of(shards: Iterable[SeenShard]) -> dict[str, int]:
    """Add up what the headers of shards count, under the names of `Stats`; what cannot be read is
    left out."""
    headers = [shard.header for shard in shards if shard.header is not None]
    return {name: sum(header[word] for header in headers) for name, word in OF_SHARDS.items()}


def move_in_words(control: ControlWords) -> str:
    """Say where a map is moving to, and how much of the hash has come there; "": nowhere."""
    table = read_table(control)
    if not table.is_moving:
        return ""
    shapes = [shape_of(row_of(control, row)) for row in table.rows]
    done = f"{table.cursors[-1] / UNITS:.0%}".replace("%", " %")
    shards, slots, sizes = (
        [f"{each[at]:,}" for each in shapes] for at in range(3)
    )
    if len(set(shards)) > 1:
        return f"{_arrow(shards)} shards, {done}"
    if len(set(slots)) > 1:
        return f"{shards[0]} shards of {_arrow(slots)} slots, {done}"
    return f"{shards[0]} shards of {slots[0]} slots of {_arrow(sizes)} bytes, {done}"


def _arrow(figures: list[str]) -> str:
    return f"{' and '.join(figures[:-1])} -> {figures[-1]}"


class _Shard(NamedTuple):
    """A shard of a generation, by its place in the hash (units, the end excluded)."""

    row: GenerationWords
    number: int
    start: int
    end: int


class _Walk:
    """One look at all shards of a map, as its control segment was read."""

    def __init__(self, name: str, control: ControlWords, counts: bool = True) -> None:
        self.is_behind = False  # a segment is gone, or has moved to where the table does not lead
        self._name = name
        self._counts = counts
        self._control = control
        self._table: Table = read_table(control)
        self._newest = self._table.rows[-1]
        self._now_ns = Clock().now_ns()

    def run(self, around: int | None = None) -> list[SeenShard]:
        """Look at them, group by group; `around`: at those of the groups that have this unit."""
        found: list[SeenShard] = []
        unit, end = 0, UNITS
        if around is not None:  # the widest shards of all generations: groups begin and end there
            width = max(UNITS // row_of(self._control, row).SHARDS for row in self._table.rows)
            unit = around // width * width
            end = unit + width
        while unit < end:
            group = self._group_at(unit)
            found += self._look_at(group)
            unit = group[-1].end
        return found

    def _shard_at(self, row: int, unit: int) -> _Shard:
        words = row_of(self._control, row)
        width = UNITS // words.SHARDS
        number = unit // width
        return _Shard(words, number, number * width, (number + 1) * width)

    def _group_at(self, unit: int) -> list[_Shard]:
        """List the shards that move together with that of a unit."""
        row = self._table.row_at(unit)
        group = [self._shard_at(row, unit)]
        end = group[0].end if row == self._newest else self._shard_at(self._newest, unit).end
        while group[-1].end < end:
            following = group[-1].end
            group.append(self._shard_at(self._table.row_at(following), following))
        return group

    def _look_at(self, group: list[_Shard]) -> list[SeenShard]:
        """Look at the shards of a group, or at those that they have moved to."""
        found = [self._look(shard) for shard in group]
        token = next((one.header.MOVED for one in found if one.header and one.header.MOVED), 0)
        if not token:
            return found
        if group[0].row.first == row_of(self._control, self._newest).first:
            self.is_behind = True  # there is one that is newer yet
            return found
        new = []
        unit = group[0].start
        while unit < group[-1].end:
            new.append(self._shard_at(self._newest, unit))
            unit = new[-1].end
        found = [self._look(shard, token) for shard in new]
        if any(one.header and one.header.MOVED for one in found):
            self.is_behind = True
        return found

    def _look(self, shard: _Shard, token: int = 0) -> SeenShard:
        """Look at a shard; `token`: it may have the private name of that mover so far."""
        generation, shape = shard.row.NUMBER, shape_of(shard.row)
        public = segment.shard_name(self._name, self._control.NONCE, generation, shard.number)
        labels = [f"{public}.{token:016x}", public] if token else [public]
        for label in labels:
            try:
                descriptor = open_file(label)
            except FileNotFoundError:
                continue
            except OSError as error:
                return SeenShard(shard.number, 0, None, error.strerror or str(error), generation,
                                 shape, label)
            try:
                header, entries = self._read(descriptor, shard, shape)
            finally:
                os.close(descriptor)
            problem = "" if header else "it is damaged"
            return SeenShard(shard.number, entries, header, problem, generation, shape, label)
        self.is_behind = True
        return SeenShard(shard.number, 0, None, os.strerror(2), generation, shape, public)

    def _read(
        self, descriptor: int, shard: _Shard, shape: geometry.Geometry
    ) -> tuple[ShardWords | None, int]:
        """Return a shard's header, None if it is none, and how many live entries are in it."""
        data = os.pread(descriptor, record_bytes(SHARD), 0)
        if len(data) < record_bytes(SHARD):
            return None, 0
        header = ShardWords(data)
        if (header.MAGIC, header.NONCE, header.GENERATION, header.NUMBER) != (
            K["SHARD_MAGIC"], self._control.NONCE, shard.row.NUMBER, shard.number
        ):
            return None, 0
        if not self._counts:
            return header, 0
        due = _count_due(descriptor, header, shape, self._now_ns)
        held = header.ENTRIES
        if header.DIRTY:  # behind, if its writer died or is stopped in mid-change
            held = _count_heads(descriptor, header, shape)
        if due or header.DIRTY:  # what was counted may have been a hole by then
            data = os.pread(descriptor, record_bytes(SHARD), 0)
            header = ShardWords(data.ljust(record_bytes(SHARD), b"\0"))
        return header, max(0, min(held, shape.slots) - due - header.TOMBSTONES)


def _count_due(descriptor: int, header: ShardWords, shape: geometry.Geometry, now_ns: int) -> int:
    """Count a shard's entries that are past their deadline and not yet swept."""
    if not header.HAS_DEADLINES or not 0 < header.EARLIEST_NS <= now_ns:
        return 0
    if os.fstat(descriptor).st_blocks * 512 < shape.areas.end:  # a shard of ours has no holes
        return 0
    import numpy as np

    last = np.uint32(last_due(base_of(header.DEADLINE_BASE), now_ns))
    start, left, due = shape.areas.deadlines, shape.slots * 4, 0
    while left:
        data = os.pread(descriptor, min(left, _CHUNK), start)
        if len(data) < 4:
            break
        codes = np.frombuffer(data[: len(data) & ~3], np.uint32)
        due += int(np.count_nonzero((codes > K["DEADLINE_BURIED"]) & (codes <= last)))
        start += len(data)
        left -= len(data)
    return due


def _count_heads(descriptor: int, header: ShardWords, shape: geometry.Geometry) -> int:
    """Count the entries that a shard's index leads to; while that is rebuilt, the live slots."""
    import numpy as np

    areas = shape.areas
    start, words, step, mask = areas.index, shape.buckets * 8, 1, K["SLOT_MASK"]
    if header.REBUILDS & 1:
        start, words, step, mask = areas.slots, shape.slots * shape.slot_size >> 3, \
            shape.slot_size >> 3, K["WHOLE_WORD"]
    found, chunk = 0, max(1, _CHUNK // (8 * step)) * step
    for first in range(0, words, chunk):
        data = os.pread(descriptor, 8 * min(chunk, words - first), start + 8 * first)
        part = np.frombuffer(data[: len(data) & ~7], np.uint64)[::step]
        found += int(np.count_nonzero(part & np.uint64(mask)))
    return found
