"""Changing a map's shape: what `m.resize` does, from what is asked for to where it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lifecycle.parameters import Parameters
from ..memory._clock_cy import monotonic
from .changing import Busy, begin, refuse_others, take_back
from .cleaning import clean
from .group import GroupMover
from .mover import Mover, Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..lifecycle.attachment import Attachment


def resize(
    attachment: Attachment, wanted: Parameters, rate: int,
    note: Callable[[Progress], object] | None, wait: bool,
) -> Progress:
    """Have a map move to another shape, and with `wait` see to it until it has."""
    shape = wanted.plan()
    while True:
        mover = Mover(attachment, note)
        try:
            begin(mover.handle, attachment, mover.groups, wanted, shape, rate)
            break
        except Busy:
            mover.run()
    if wait:
        mover.run()
    return mover.progress()


def cancel(attachment: Attachment, note: Callable[[Progress], object] | None) -> None:
    """Have a map that is on its way go back to the shape that it had, and wait until it has."""
    mover = Mover(attachment, note)
    take_back(mover.handle, attachment, mover.groups)
    mover.run()


__all__ = ["GroupMover", "cancel", "clean", "monotonic", "refuse_others", "resize"]
