"""The table of generations: which geometry is in use, to which one the map is moving, how far.

It is one word of the control segment, and three rows: see `layout`, and docs/design/moving.md. In
the word are, from its low bits on: how many rows are in use, less one (2 bits); which, the newest
last (3 of 2); how far it is to the third of them, and to the second (13 each); the changes so far
(30). A row is written only while the word does not say that it is in use. The word changes only by
compare and exchange, and never comes back, since it has the number of changes in it.

A place in the hash is said in units of 1 / 4096 of it: a shard of a generation of 16 is 256 units.
Below the cursor of the last generation that is in use, a key is there; else below that of the one
before, there; else it is in the first. There are three where a change was taken back half-way.
"""

from __future__ import annotations

from typing import NamedTuple

import xxhash

from .geometry import SHARD_LIMIT
from .layout import constants
from .words import ControlWords, GenerationWords, Word

K = constants()
UNITS = SHARD_LIMIT  # of the hash
_ROWS: tuple[Word, ...] = (
    ControlWords.GEN0_NUMBER, ControlWords.GEN1_NUMBER, ControlWords.GEN2_NUMBER,
)
_SUMMED: tuple[Word, ...] = (
    GenerationWords.NUMBER, GenerationWords.SHARDS, GenerationWords.SLOTS,
    GenerationWords.SLOT_SIZE, GenerationWords.BUCKETS, GenerationWords.BYTES,
    GenerationWords.ON_FULL, GenerationWords.SIZE, GenerationWords.CAPACITY,
    GenerationWords.VALUE_SIZE, GenerationWords.KEY_SIZE,
)
COLUMNS = (*_SUMMED, GenerationWords.CHECK)
_CURSORS = (0, 21, 8)  # where in the word: of the second row, of the third


class Table(NamedTuple):
    """The table word, taken apart.

    Attributes:
        rows: which rows are in use: of the generation that was, of the one that it is moving to,
            and where that was broken off, of the one that both are moving to. One: nothing moves.
        cursors: for each row in use, how many units of the hash have come to it: of the first, all.
        changes: changes of generation that were begun so far.
    """

    rows: tuple[int, ...] = (0,)
    cursors: tuple[int, ...] = (UNITS,)
    changes: int = 0

    @property
    def is_moving(self) -> bool:
        """Tell whether entries are on their way to another generation."""
        return len(self.rows) > 1

    def word(self) -> int:
        """Return it as the word."""
        word = len(self.rows) - 1 | self.changes << K["TABLE_CHANGES_SHIFT"]
        for at, row in enumerate(self.rows):
            word |= row << 2 + 2 * at
            if at:
                word |= self.cursors[at] << _CURSORS[at]
        return word

    def row_at(self, unit: int) -> int:
        """Return the row of the generation that has a unit of the hash."""
        if not self.is_moving:
            return self.rows[0]
        return [row for row, cursor in zip(self.rows, self.cursors, strict=True)
                if unit < cursor][-1]

    def with_moved(self, unit: int) -> Table:
        """Return it with all below a unit in the newest generation; where that is all, alone."""
        if unit == UNITS:
            return Table(self.rows[-1:], (UNITS,), self.changes)
        return Table(self.rows, (*self.cursors[:-1], unit), self.changes)

    def with_change(self) -> Table:
        """Return it with a change begun, to a row that is free. At most two are in use so far."""
        row = min([at for at in range(len(_ROWS)) if at not in self.rows])
        return Table((*self.rows, row), (*self.cursors, 0), self.changes + 1)

    def is_valid(self) -> bool:
        """Tell whether a mover can have written it."""
        return (
            1 <= len(self.rows) <= len(_ROWS)
            and len(set(self.rows)) == len(self.rows) and max(self.rows) < len(_ROWS)
            and max(self.cursors) <= UNITS
        )


def is_moving(control: ControlWords) -> bool:
    """Tell whether entries are on their way to another generation."""
    return bool(control.TABLE & K["TABLE_ROWS_MASK"])


def table_of(word: int) -> Table:
    """Take a table word apart."""
    count = (word & K["TABLE_ROWS_MASK"]) + 1
    rows = [word >> 2 + 2 * at & 3 for at in range(min(count, 3))]
    cursors = [UNITS, *[word >> at & K["TABLE_CURSOR_MASK"] for at in _CURSORS[1:]], 0]
    return Table(tuple(rows + [3] * (count - len(rows))), tuple(cursors[:count]),
                 word >> K["TABLE_CHANGES_SHIFT"])


def read_table(control: ControlWords) -> Table:
    """Load the table word."""
    return table_of(control.TABLE)


def row_of(control: ControlWords, row: int) -> GenerationWords:
    """Return a row of the table."""
    return GenerationWords(control.words, control.first + _ROWS[row % len(_ROWS)].index)


def generations_of(control: ControlWords) -> list[GenerationWords]:
    """Return the rows that are in use, the newest last."""
    return [row_of(control, row) for row in read_table(control).rows]


def generation_of(control: ControlWords) -> GenerationWords:
    """Return the row of the generation that the map has, or is moving to."""
    return generations_of(control)[-1]


def checksum_of(row: GenerationWords) -> int:
    """Sum up a row: see CHECK."""
    words = b"".join([row[word].to_bytes(8, "little") for word in _SUMMED])
    return int(xxhash.xxh3_64_intdigest(words))
