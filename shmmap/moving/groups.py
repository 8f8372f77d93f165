"""What moves together: the shards that share a part of the hash, before and after.

A group is an old shard and the new ones that it is split into, or several old ones and the one that
they become, or one and one: as much of the hash as the largest of them has.
"""

from __future__ import annotations

from typing import NamedTuple

from ..lifecycle.control import shape_of
from ..memory.geometry import Geometry
from ..memory.table import UNITS, Table, row_of
from ..memory.words import ControlWords


class Place(NamedTuple):
    """A shard, by the number of its generation, and its own number in that."""

    generation: int
    number: int
    shape: Geometry


class Group(NamedTuple):
    """See the module.

    Attributes:
        first, last: the units of the hash that it has: from the first to before the last.
        old, new: the shards, ascending.
    """

    first: int
    last: int
    old: tuple[Place, ...]
    new: tuple[Place, ...]


def group_at(control: ControlWords, table: Table, unit: int) -> Group:
    """Return the group that has a unit of the hash, of those that the newest generation takes over
    from the older ones."""
    newest = row_of(control, table.rows[-1])
    older = Table(table.rows[:-1], table.cursors[:-1], table.changes)
    source = shape_of(row_of(control, older.row_at(unit)))
    target = shape_of(newest)
    width = UNITS // min(source.shards, target.shards)
    first = unit // width * width
    old = []
    at = first
    while at < first + width:
        row = row_of(control, older.row_at(at))
        shape = shape_of(row)
        number = at * shape.shards // UNITS
        old.append(Place(row.NUMBER, number, shape))
        at = (number + 1) * UNITS // shape.shards
    each = UNITS // target.shards
    new = [Place(newest.NUMBER, number, target)
           for number in range(first // each, (first + width + each - 1) // each)]
    return Group(first, first + width, tuple(old), tuple(new))
