"""A map in the middle of a move to another geometry, made by hand: rows and word of the generation
table, shards under private and public names, MOVED, holes. Each step is one that a mover stops at.

What is in the new shards is made by a map of that geometry with the same hash seed, whose segments
are copied. The handle on the moving map must not be used while it is like that: it knows only the
shards that it opened.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import shmmap
from shmmap.lifecycle.parameters import Parameters
from shmmap.memory.geometry import Geometry
from shmmap.memory.layout import PAGE
from shmmap.memory.table import UNITS, Table, read_table, row_of
from shmmap.memory.words import ShardWords
from shmmap.system import segment

TOKEN = 0x0123_4567_89AB_CDEF
SIZES = ("size", "capacity", "value_size", "key_size", "on_full")
STEPS = ("make", "publish", "punch", "rename", "advance", "unlink")  # of a group


@contextmanager
def header(label: str) -> Iterator[ShardWords]:
    """Map a segment's header, to write its words."""
    with open(segment.SHM_DIRECTORY + label, "r+b") as file, \
            mmap.mmap(file.fileno(), PAGE) as mapped, ShardWords(mapped) as words:
        yield words


class MovingMap:
    """A map whose move to another geometry begins; `step` goes on, for one group after the other.

    `m` is at rest; all its entries are of its own shards. `turn_back` begins another move.
    """

    def __init__(self, m: Any, token: int = TOKEN, **shape: Any) -> None:
        self.name, self.control, self.token = m.name, m.attachment.control, token
        self.entries, self.mode = dict(m), m.attachment.parameters.mode
        self.nonce, self.seed = m.attachment.nonce, m.attachment.seed
        self.shapes: dict[int, Geometry] = {0: m.attachment.geometry}  # by row
        self.begin(Parameters.load(self.control), shape)

    def begin(self, parameters: Parameters, shape: dict[str, Any]) -> None:
        """Write the next row, have the table say that the map moves to it, and prepare shards."""
        table = read_table(self.control)
        self.row = len(table.rows)
        wanted = parameters._replace(**shape)
        asked = {one: getattr(wanted, one) for one in (*SIZES, "shards")}
        with shmmap.ShmMap.create(
            f"{self.name}-to", **{one: value for one, value in asked.items() if value is not None},
            sweep_interval=None, mode=self.mode, _seed=self.seed,
        ) as twin:
            twin.update(self.entries)
            self.shapes[self.row] = twin.attachment.geometry
            self.prepared = [bytes(mapping.buffer) for mapping in twin.attachment.mappings]
            twin.unlink()
        number = table.changes + 1
        wanted.store_shape(row_of(self.control, self.row), self.shapes[self.row], number)
        self.store(Table((*table.rows, self.row), (*table.cursors, 0), number))

    def turn_back(self, **shape: Any) -> None:
        """Break the move off, and begin one to a third generation."""
        self.token += 1
        self.begin(Parameters.load(self.control), shape)

    def store(self, table: Table) -> None:
        """Let this be the table."""
        self.control.TABLE = table.word()

    @property
    def table(self) -> Table:
        """The table, as it is now."""
        return read_table(self.control)

    def label(self, row: int, number: int, private: bool = False) -> str:
        """Name a shard's segment."""
        generation = row_of(self.control, row).NUMBER
        public = segment.shard_name(self.name, self.nonce, generation, number)
        return f"{public}.{self.token:016x}" if private else public

    def old_at(self, unit: int) -> tuple[int, int]:
        """Return row and number of the shard that has a place in the hash, without the move."""
        table = self.table
        before = Table(table.rows[:-1], table.cursors[:-1], table.changes)
        row = before.row_at(unit)
        return row, unit * self.shapes[row].shards // UNITS

    def group(self) -> tuple[range, list[tuple[int, int]], list[int]]:
        """Return the units of the group at the cursor, its old shards and its new ones."""
        first = self.table.cursors[-1]
        new = self.shapes[self.row].shards
        coarsest = min(new, self.shapes[self.old_at(first)[0]].shards)
        units = range(first, first + UNITS // coarsest)
        return (units, sorted({self.old_at(unit) for unit in units}),
                sorted({unit * new // UNITS for unit in units}))

    def step(self, what: str) -> None:
        """Do one of STEPS for the group at the cursor; `unlink`: for the one before it."""
        getattr(self, f"_{what}")()

    def move(self, groups: int) -> None:
        """Move so many groups, all steps of each."""
        for _ in range(groups):
            for what in STEPS:
                self.step(what)

    def _make(self) -> None:
        for number in self.group()[2]:
            private = self.label(self.row, number, private=True)
            octets = bytearray(self.prepared[number])
            with ShardWords(octets) as words:
                words.NONCE, words.NUMBER = self.nonce, number
                words.GENERATION = row_of(self.control, self.row).NUMBER
            self.write(private, octets)
            segment.create_semaphore(self.label(self.row, number), self.mode)

    def write(self, label: str, octets: bytes | bytearray) -> None:
        """Make a segment of these bytes."""
        mapping = segment.create(label, len(octets), len(octets), self.mode)
        mapping.buffer[:] = octets
        mapping.close()

    def _publish(self) -> None:
        for row, number in self.group()[1]:
            self.mark(row, number)

    def mark(self, row: int, number: int) -> None:
        """Store MOVED in an old shard."""
        with header(self.label(row, number)) as words:
            words.MOVED = self.token

    def _punch(self) -> None:
        for row, number in self.group()[1]:
            path = segment.SHM_DIRECTORY + self.label(row, number)
            size = os.stat(path).st_size
            os.truncate(path, PAGE)  # what was behind the header is zeros then
            os.truncate(path, size)

    def _rename(self) -> None:
        for number in self.group()[2]:
            assert segment.publish(self.label(self.row, number, True), self.label(self.row, number))

    def _advance(self) -> None:
        table = self.table
        self.moved = self.group()[1]
        self.store(table._replace(cursors=(*table.cursors[:-1], self.group()[0].stop)))

    def _unlink(self) -> None:
        for row, number in self.moved:
            segment.unlink(self.label(row, number))
            segment.unlink(segment.semaphore_file(self.label(row, number)))

    def end(self) -> None:
        """Move whatever is left, and have only the new generation be in use."""
        while self.table.cursors[-1] < UNITS:
            self.move(1)
        self.store(Table((self.row,), (UNITS,), self.table.changes))
