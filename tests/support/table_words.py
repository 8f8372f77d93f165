"""Words of a control segment in /dev/shm that have a checksum of their own: rows of the generation
table, and what a creator wrote."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager

from shmmap.lifecycle.control import checksum
from shmmap.memory.table import checksum_of, row_of
from shmmap.memory.words import ControlWords

from .leftovers import SHM, control_file

ROWS = range(3)


@contextmanager
def control_words(name: str) -> Iterator[ControlWords]:
    """Map a map's control segment, of this flavour, to write any of its words."""
    with (SHM / control_file(name)).open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped, \
            ControlWords(mapped) as control:
        yield control


def sum_up(control: ControlWords) -> None:
    """Let each checksum be that of the words as they are."""
    for number in ROWS:
        row = row_of(control, number)
        row.CHECK = checksum_of(row)
    control.CHECK = checksum(control.words)


def copy_row(control: ControlWords, source: int, target: int, number: int) -> None:
    """Make a row of another one, with a number of its own, and sum it up."""
    first, second = row_of(control, source), row_of(control, target)
    for at in range(ControlWords.GEN1_NUMBER.index - ControlWords.GEN0_NUMBER.index):
        control.words[second.first + at] = control.words[first.first + at]
    second.NUMBER = number
    second.CHECK = checksum_of(second)
