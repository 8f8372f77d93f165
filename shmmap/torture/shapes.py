"""Which shapes the main map has in a run: those that it is replaced by, those that it is resized
to, and those that cannot hold what it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..memory.geometry import SHARD_LIMIT, VALUE_SIZE, Geometry, parse_size
from .plan import KEYS, LONGEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..lifecycle.parameters import Parameters
    from .plan import Plan

_MOST_SHARDS = 256
_FACTORS = (1, 1.5, 4)  # of the size
_LEAST_LENGTH = 1_500  # a shape in which no longer value is safe is not worth it
_OTHERS_BYTES = 40_000  # what a shard may have of registers and histories, about
_TOO_SMALL = (0.3, 0.45, 0.6)  # of the size: what is in the map does not fit, or just so


class Shape(NamedTuple):
    """What tells one from another. `value_size` None: as the map was made."""

    size: int
    shards: int
    value_size: int | None = None


def shapes(plan: Plan) -> tuple[Shape, Shape]:
    """Return the two shapes that the main map is replaced by in turn: the second one has twice as
    many shards, each as large, so it holds whatever the first one does."""
    first = Shape(parse_size(plan.size), plan.shards)
    more = 2 if plan.shards < SHARD_LIMIT else 1
    return first, Shape(2 * first.size, more * plan.shards)


def longest_value(plan: Plan, shape: Geometry, filled: int) -> int:
    """Return the bytes that a lane's values may have if what all lanes have together is to fit in
    beside what fills the map, where others than those of the dead are written anew meanwhile."""
    each, keys = shape.max_entry_bytes, plan.lanes * KEYS
    fair = min(each // 8, each * shape.shards // keys)
    if not plan.replaces and not plan.resizes:  # mostly
        return fair
    fill = filled / shape.shards
    fullest = fill + 5 * fill**0.5 if shape.shards > 1 else fill
    free = each * (1 - fullest / shape.slots) - _OTHERS_BYTES * plan.resizes
    there = keys / shape.shards
    return min(fair, int(max(0.0, free) * 0.7 / (there + 5 * there**0.5)))


class Shapes:
    """Those to which a map of these parameters is resized, of what the run has in it.

    Attributes:
        regular: it fits; the first is the one that the map was made with.
        small: it does not, or just so: of fewer shards, so that no single entry is too large.
        longest: bytes of the values that lanes write.
    """

    def __init__(self, plan: Plan, made: Parameters, filled: int) -> None:
        first = shapes(plan)[0]
        lengths = {first: longest_value(plan, made.plan(), filled)}
        if plan.resizes:
            for shape in _candidates(first):
                fits = longest_value(plan, _laid_out(made, shape), filled)
                if fits >= min(_LEAST_LENGTH, lengths[first]):
                    lengths[shape] = fits
        self.regular = list(lengths)
        self.small = [Shape(int(first.size * factor), max(1, first.shards // 4))
                      for factor in _TOO_SMALL]
        self.longest = min([LONGEST, *lengths.values()])


def _laid_out(made: Parameters, shape: Shape) -> Geometry:
    return made._replace(
        size=shape.size, capacity=None, shards=shape.shards, value_size=shape.value_size
    ).plan()


def _candidates(first: Shape) -> Iterator[Shape]:
    shards = max(1, first.shards // 16)
    while shards <= min(_MOST_SHARDS, max(64, 16 * first.shards)):
        for factor in _FACTORS:
            size = int(first.size * factor)
            yield Shape(size, shards)
            if factor > 2:
                yield Shape(size, shards, 2 * VALUE_SIZE)
        shards *= 2
