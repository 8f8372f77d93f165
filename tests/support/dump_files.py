"""What the tests of dumps share: reading and forging their files, and the boots of a machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.copies import dumps
from shmmap.lifecycle import headers
from shmmap.memory._clock_cy import Clock

STR, INT, FLOAT, NONE, TUPLE = 1, 3, 4, 5, 6  # keys
BYTES, PICKLE = 1, 10  # values


class Boots:
    """Which boot of the machine it seems to be, and what its clocks say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch
        monkeypatch.setattr(headers, "CLOCK", Clock(0))  # it has not seen any of those boots yet

    def become(self, m: Any, boot: str, boottime_s: float, wall_s: float) -> None:
        """Be on that boot: a map's clock and the wall clock stand still there."""
        m.attachment.clock.frozen_ns = round(boottime_s * 1e9)
        self.patch.setattr(dumps, "this_boot", lambda: boot)
        self.patch.setattr(dumps, "wall_ns", lambda: round(wall_s * 1e9))


def load(other: Any, path: Path, **parameters: Any) -> Any:
    """Load a dump into the second map; the fixture unlinks it."""
    shmmap.ShmMap.load(path, other.name, **parameters).close()
    return other(size=None)


def rewritten(path: Path, records: list[tuple[Any, ...]]) -> None:
    """Write a dump with a dump's head and these records, every checksum right."""
    with dumps.DumpReader(path) as dump:
        head = dump.head
    with open(path, "wb") as file:
        dumps.write(file, head, [dumps.RawEntry(*record) for record in records])


def read(path: Path) -> list[Any]:
    with dumps.DumpReader(path) as dump:
        dump.verify()
        return [dump.head, *dump.records()]
